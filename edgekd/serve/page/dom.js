/** Elements without markup in strings: nothing of others can become markup. */

/** The element of this id, which index.html has. */
export const byId = (id) => document.getElementById(id);

/**
 * A new element. Properties with a dash and `role` are attributes; the others are set as they are;
 * children that are null or false are left out.
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== false));
  return element;
}

export const button = (text, onclick, properties = {}) =>
  make("button", { type: "button", onclick, ...properties }, text);
