/** Fills `{name}` in a text, with what HTML means something by taken out. */
export function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? escape(values[name]) : whole));
}

function escape(value) {
  return String(value).replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
