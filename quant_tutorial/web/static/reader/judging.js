// @ts-check
// What a reader has predicted, compared with the course's answer.

/**
 * What is asked, as `quant_tutorial/web/predictions.py` writes it into the page.
 * @typedef {{
 *   kind: "choice" | "several" | "number" | "text",
 *   label?: string,
 *   choices?: string[],
 *   answer?: string | string[] | number,
 *   tolerance?: number,
 *   unit?: string,
 * }} Part
 *
 * What a reader says to a part: a choice, several choices, or what she has typed.
 * @typedef {string | string[]} Said
 */

const NUMBER = /^([+-]?)(\d+(?:,\d{3})+(?:\.\d+)?|\d*[.,]?\d+|\d+[.,])(e[+-]?\d+)?/i;

/**
 * Return the number that a text begins with, or NaN. It may be written as 7840, 7,840, 0.43, 0,43,
 * 10/255 or −128, and a unit may follow.
 * @param {string} text
 * @returns {number}
 */
export function parsed(text) {
  const [above, below, ...more] = text.trim().replaceAll("−", "-").split("/");
  const match = NUMBER.exec(above);
  if (!match || more.length) return NaN;
  const [whole, sign, digits, exponent = ""] = match;
  // A fraction's upper part is a number and no more; a unit may hold a slash, but no such number.
  if (below !== undefined && above.trim() !== whole) return NaN;
  const thousands = /^[1-9]\d{0,2}(,\d{3})+(\.\d+)?$/.test(digits);
  const plain = thousands ? digits.replaceAll(",", "") : digits.replace(",", ".");
  const value = Number(sign + plain + exponent);
  if (below === undefined) return value;
  const divisor = parsed(below);
  return divisor === 0 ? NaN : value / divisor;
}

/**
 * Return what is missing before an answer can be compared, as a sentence, or "".
 * @param {Part} part
 * @param {Said} said
 */
export function missing(part, said) {
  if (part.kind === "choice" && !said) return "Choose one of the answers.";
  if (part.kind === "several" && !said.length) return "Choose one answer or several.";
  if (part.kind === "number" && Number.isNaN(parsed(String(said)))) {
    return "Write a number, such as 4, 0.25 or 1/4.";
  }
  if (part.kind === "text" && !String(said).trim()) return "Write what you expect.";
  return "";
}

/**
 * Return whether an answer agrees with the course's, or null where only the reader can tell.
 * @param {Part} part
 * @param {Said} said
 * @returns {boolean | null}
 */
export function agrees(part, said) {
  if (part.kind === "text") return null;
  if (part.kind === "number") {
    // In floats, 1.05 − 1 is a little more than 0.05.
    const slack = 1e-9 * Math.max(1, Math.abs(Number(part.answer)));
    const off = Math.abs(parsed(String(said)) - Number(part.answer));
    return off <= (part.tolerance ?? 0) + slack;
  }
  if (part.kind === "choice") return said === part.answer;
  const wanted = new Set(part.answer instanceof Array ? part.answer : []);
  return said.length === wanted.size && [...said].every((each) => wanted.has(each));
}

/**
 * Return whether something that was stored answers these parts: a question may have changed since.
 * @param {Part[]} parts
 * @param {unknown} said
 * @returns {said is Said[]}
 */
export function fits(parts, said) {
  return Array.isArray(said) && said.length === parts.length &&
    parts.every((part, i) => {
      const each = said[i];
      const texts = part.kind === "several" ? each : [each];
      if (!Array.isArray(texts) || texts.some((text) => typeof text !== "string")) return false;
      if (part.choices && !texts.every((text) => part.choices?.includes(text))) return false;
      return !missing(part, each);
    });
}

/**
 * Return an answer as text, with the part's unit.
 * @param {Part} part
 * @param {Said | number | undefined} answer
 */
export function shown(part, answer) {
  if (answer instanceof Array) return answer.join("; ");
  if (part.kind !== "number") return String(answer ?? "");
  const unit = part.unit ?? "";
  const text = typeof answer === "number"
    ? answer.toLocaleString("en", { maximumFractionDigits: 6 }).replace("-", "−")
    : String(answer).trim().replaceAll("-", "−");
  // What the reader has typed may have a unit already.
  const bare = !/[a-zµ%]/i.test(text.replace(/e[+−]?\d+$/i, ""));
  return unit && bare ? `${text}${unit.startsWith("%") ? "" : " "}${unit}` : text;
}
