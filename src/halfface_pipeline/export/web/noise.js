// Standard normal noise of a seed: the values of torch.randn on a CPU, up to the rounding of logarithm and cosine.

const STATE = 624, SHIFT = 397, BLOCK = 16;

/** MT19937 (Matsumoto and Nishimura 1998): a function that returns the next 32 random bits. */
function mersenneTwister(seed) {
  const state = new Uint32Array(STATE);
  state[0] = seed;
  for (let i = 1; i < STATE; i++) {
    state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  }
  let next = STATE;
  return () => {
    if (next === STATE) {
      for (let i = 0; i < STATE; i++) {
        const y = (state[i] & 0x80000000) | (state[(i + 1) % STATE] & 0x7fffffff);
        state[i] = state[(i + SHIFT) % STATE] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      next = 0;
    }
    let y = state[next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}

/** The transform of Box and Muller (1958) on 16 uniform values: the first 8 are radii, the last 8 angles. */
function boxMuller(values, start) {
  for (let i = start; i < start + BLOCK / 2; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - values[i])), angle = 2 * Math.PI * values[i + BLOCK / 2];
    values[i] = radius * Math.cos(angle);
    values[i + BLOCK / 2] = radius * Math.sin(angle);
  }
}

/**
 * torch.randn(count, generator=torch.Generator().manual_seed(seed)) as a Float32Array.
 * seed: whole, below 2^32 (torch's generator uses no more bits of it); count: at least 16.
 */
export function normalNoise(seed, count) {
  const bits = mersenneTwister(seed), uniform = () => (bits() & 0xffffff) / 2 ** 24;
  const values = Float32Array.from({ length: count }, uniform);
  for (let start = 0; start + BLOCK <= count; start += BLOCK) boxMuller(values, start);
  if (count % BLOCK) { // torch draws the last 16 anew, across the end of the last full block
    for (let i = count - BLOCK; i < count; i++) values[i] = uniform();
    boxMuller(values, count - BLOCK);
  }
  return values;
}
