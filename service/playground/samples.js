// Test pictures of the bundled models' data, in the size that the networks see.

const of = (width, height, labels, kind) =>
  labels.map((label) => ({ src: `playground/samples/${kind}-${label}.png`, label, width, height }));

export const SAMPLES = [
  ...of(48, 28, ["17", "42", "58", "63", "90"], "number"),
  ...of(28, 28, ["0", "2", "4", "7", "8"], "digit"),
];
