"""The page of `halfface app`. Its server, page and answers need the extra `app`."""
