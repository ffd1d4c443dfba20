// @ts-check
// Python's format specifications, so that a live explorer says the very text that Python says.

const SPEC = /^(\+?)(,?)(?:\.(\d+))?([dfg%]?)$/;
const EXACT = 100; // decimals that JavaScript can write; a tie of a double ends long before

/**
 * Return a number as Python's `format(value, spec)` writes it.
 *
 * Of the specifications there are `d`, `f`, `g` and `%`, with a precision, with a plus sign and with
 * commas between thousands, as in "+.4f" or ",.0f". An empty one stands for `g`. Ties go to the even
 * digit, as in Python; `toFixed` and `toPrecision` take them away from zero.
 * @param {number} value
 * @param {string} [spec]
 * @returns {string}
 * @throws {RangeError} for another specification.
 */
export function format(value, spec = "g") {
  const match = SPEC.exec(spec);
  if (!match) throw new RangeError(`spec must be like "+.4f", ".3g", "d" or ".1%", got "${spec}".`);
  const [, plus, comma, precision, kind] = match;
  const sign = value < 0 || Object.is(value, -0) ? "-" : plus;
  const digits = precision === undefined ? 6 : Number(precision);
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : `${sign}inf`;
  const size = Math.abs(value);
  let text;
  if (kind === "d") text = fixed(size, 0);
  else if (kind === "f") text = fixed(size, digits);
  else if (kind === "%") text = `${fixed(size * 100, digits)}%`;
  else text = general(size, digits || 1);
  if (kind === "d" && size === 0) return `${plus}0`; // an integer has no negative zero
  return sign + (comma ? text.replace(/^\d+/, grouped) : text);
}

/**
 * Return a number as `describe_number` does in Python: with a true minus sign.
 * @param {number} value
 * @param {string} [spec]
 */
export function describeNumber(value, spec = "g") {
  return format(value, spec).replaceAll("-", "−");
}

/** @param {string} digits */
function grouped(digits) {
  return digits.replace(/\B(?=(\d{3})+$)/g, ",");
}

/** @param {string} rest The exact digits after those that are kept. */
function isTie(rest) {
  return /^50*$/.test(rest);
}

/**
 * @param {number} size Not negative.
 * @param {number} digits Decimals.
 */
function fixed(size, digits) {
  if (size >= 1e21) { // `toFixed` turns to exponents here; such a number is whole
    return BigInt(size) + (digits ? `.${"0".repeat(digits)}` : "");
  }
  const exact = size.toFixed(EXACT);
  const end = exact.indexOf(".") + 1 + digits;
  if (!isTie(exact.slice(end))) return size.toFixed(digits);
  const below = exact.slice(0, digits ? end : end - 1);
  return Number(below.at(-1)) % 2 === 0 ? below : size.toFixed(digits);
}

/**
 * @param {number} size Not negative.
 * @param {number} digits Significant digits, at least 1.
 */
function general(size, digits) {
  let [mantissa, power] = size.toExponential(digits - 1).split("e");
  const [exact, below] = size.toExponential(EXACT).split("e");
  const end = digits + 1;
  if (isTie(digits === 1 ? exact.slice(2) : exact.slice(end))) {
    const cut = exact.slice(0, digits === 1 ? 1 : end);
    if (Number(cut.at(-1)) % 2 === 0) [mantissa, power] = [cut, below];
  }
  const exponent = Number(power);
  if (exponent >= -4 && exponent < digits) return stripped(fixed(size, digits - 1 - exponent));
  const [sign, value] = [exponent < 0 ? "-" : "+", Math.abs(exponent)];
  return `${stripped(mantissa)}e${sign}${String(value).padStart(2, "0")}`;
}

/** @param {string} text */
function stripped(text) {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}
