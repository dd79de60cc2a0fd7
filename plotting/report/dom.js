"use strict";
// Everything from a result file reaches the page as a text node, never as markup.
const el = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined)
    made.append(child instanceof Node ? child : document.createTextNode(String(child)));
  return made;
};
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = (value, digits = 3) => value === null || value === undefined ? "" :
  Math.abs(value) >= 999.5 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(digits)));
const time = value => value === null || value === undefined ? "" :
  value < 0.9995e-3 ? `${number(value * 1e6, 3)} µs` : value < 0.9995 ? `${number(value * 1e3, 3)} ms` : `${number(value)} s`;
