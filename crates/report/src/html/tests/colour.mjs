// How far apart two colours are, to eyes of all kinds. Distances are in OKLab; dichromacy after Machado, Oliveira and
// Fernandes (2009), at full severity.

const EYES = {
  all: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protanopia: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deuteranopia: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritanopia: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};

const linear = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));

function oklab([r, g, b]) {
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s, 1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s, 0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s];
}

const seenBy = (eye, rgb) => EYES[eye].map((row) => Math.min(1, Math.max(0, row[0] * rgb[0] + row[1] * rgb[1] + row[2] * rgb[2])));

// The least distance of two colours over all eyes.
export function distance(a, b) {
  return Math.min(...Object.keys(EYES).map((eye) => {
    const [p, q] = [oklab(seenBy(eye, linear(a))), oklab(seenBy(eye, linear(b)))];
    return Math.hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]);
  }));
}

// Contrast as WCAG has it.
export function contrast(a, b) {
  const y = (hex) => { const [r, g, bl] = linear(hex); return 0.2126 * r + 0.7152 * g + 0.0722 * bl; };
  const [high, low] = [y(a), y(b)].sort((p, q) => q - p);
  return (high + 0.05) / (low + 0.05);
}
