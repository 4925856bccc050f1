// Test pictures of the bundled models' data, in the size that the networks see. Of the numbers the last three are ones
// that a single time-step gets wrong and more of them right, where the samples were chosen.

const of = (width, height, labels, kind) =>
  labels.map((label) => ({ src: `playground/samples/${kind}-${label}.png`, label, width, height }));

export const SAMPLES = [
  ...of(48, 28, ["17", "42", "96", "53", "40"], "number"),
  ...of(28, 28, ["0", "2", "4", "7", "8"], "digit"),
];
