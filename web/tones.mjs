// Colours that say how grave a thing is, made from the theme's own text colour: readable on dark and on light.
const mixed = (colour, part) => `color-mix(in srgb, ${colour} ${part}%, var(--input-text, #ddd))`;

export const AMBER = mixed("#ff8000", 38);
export const RED = mixed("#ff2020", 55);
export const GREEN = mixed("#00b050", 40);
export const GREY = "color-mix(in srgb, var(--input-text, #ddd) 72%, var(--comfy-input-bg, #222))"; // of what is past
