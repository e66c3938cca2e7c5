"""Models in forms that run without Python: ONNX, and a static page that runs it in the browser."""
