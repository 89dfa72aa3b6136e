// say("Copied"): a text in the language of the page, which carries those of other languages than English.

const texts = JSON.parse(document.documentElement.dataset.texts ?? "{}");

export const say = (text) => texts[text] ?? text;
