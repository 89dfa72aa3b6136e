// The price comes with what the model takes from each prompt, with the words that it offers, and with the field that is
// wrong: each is put where it belongs. A word is added to its prompt here; without scripts the server does it.
// Ctrl+Enter orders.

const board = document.getElementById("board");

function place(news) {
  for (const line of news.querySelectorAll("[data-for]")) {
    const target = document.getElementById(line.dataset.for);
    // Words change with the model only: their buttons keep the focus while a prompt is typed.
    if (!target || (line.dataset.for.startsWith("words-") && board.dataset.model === news.dataset.model)) continue;
    target.replaceChildren(...line.childNodes);
  }
  board.dataset.model = news.dataset.model;
  for (const drop of board.querySelectorAll("frame-drop")) {
    const { startFrame, endFrame } = news.dataset;
    const isOffered = (drop.matches(".first-frame") ? startFrame : endFrame) === "yes";
    drop.hidden = !isOffered && drop.getAttribute("state") === "empty";
  }
  mark(news.querySelector("[data-wrong]"));
  // What is left are the words that the board has already.
  news.replaceChildren();
}

function mark(reason) {
  for (const field of document.querySelectorAll("#compose [aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-errormessage");
  }
  for (const text of document.querySelectorAll("#compose .wrong-text")) text.remove();
  if (!reason) return;
  const [list, row, name] = reason.dataset.wrong.split(".");
  const shot = document.getElementById(list === "prompt" ? "shot-1" : `shot-${Number(row) + 1}`);
  const isInShot = list === "shots" || list === "prompt";
  const field = isInShot ? shot?.querySelector(`[name=shot_${name ?? list}]`) : document.getElementById(list);
  const choice = document.querySelector(`#compose fieldset [name="${CSS.escape(list)}"]`)?.closest("fieldset");
  if (!field && !choice) return;
  // As wrong.html writes it. Choices have their reason below all of them, and no field of their own.
  const text = document.createElement("p");
  text.className = "wrong-text small";
  text.id = `wrong-${reason.dataset.wrong.replaceAll(".", "-")}`;
  text.textContent = reason.textContent;
  if (!field) return choice.append(text);
  (field.closest("label") ?? field).after(text);
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-errormessage", text.id);
}

document.addEventListener("htmx:afterSwap", (event) => {
  const news = event.target.id === "meter" && event.target.querySelector("#news");
  if (news) place(news);
});

// Where a word or phrase stands last in a prompt, as whole words. draft_edits.py has the same rule.
function lastMatch(prompt, word) {
  const phrase = word.split(/\s+/).map((part) => part.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")).join("\\s+");
  return [...prompt.matchAll(new RegExp(`(?<![\\p{L}\\p{N}_\\-])${phrase}(?![\\p{L}\\p{N}_\\-])`, "gu"))].at(-1);
}

const trimmed = (prompt) => prompt.replace(/^[\s,]+|[\s,]+$/g, "");

function toggled(prompt, word, separator) {
  const last = lastMatch(prompt, word);
  if (!last) return trimmed(prompt) ? trimmed(prompt) + separator + word : word;
  return trimmed(prompt.slice(0, last.index).replace(/[\s,]+$/, "") + prompt.slice(last.index + last[0].length));
}

function press(shot) {
  const prompt = shot.querySelector("[name=shot_prompt]").value;
  for (const button of shot.querySelectorAll(".word")) {
    button.setAttribute("aria-pressed", String(Boolean(lastMatch(prompt, button.dataset.word))));
  }
}

board?.addEventListener("click", (event) => {
  const button = event.target.closest(".word");
  if (!button) return;
  event.preventDefault();
  const field = button.closest(".shot").querySelector("[name=shot_prompt]");
  field.value = toggled(field.value, button.dataset.word, button.dataset.separator);
  field.dispatchEvent(new Event("input", { bubbles: true }));
});

board?.addEventListener("input", (event) => event.target.name === "shot_prompt" && press(event.target.closest(".shot")));

document.addEventListener("keydown", (event) => {
  const form = event.target.closest?.("#compose");
  const isCommand = event.ctrlKey || event.metaKey;
  const undo = document.getElementById("restore-shot");
  // In a field Ctrl+Z undoes what was typed there.
  if (undo && isCommand && event.key === "z" && !event.target.matches?.("input, textarea, select")) {
    event.preventDefault();
    return undo.click();
  }
  if (!form || event.key !== "Enter" || !isCommand) return;
  event.preventDefault();
  const button = document.getElementById("generate");
  if (!button.disabled) form.requestSubmit(button);
});
