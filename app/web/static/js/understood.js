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
  for (const field of document.querySelectorAll("#compose [aria-invalid]")) field.removeAttribute("aria-invalid");
  for (const text of document.querySelectorAll("#compose .wrong-text")) text.remove();
  if (!reason) return;
  const [list, row, name] = reason.dataset.wrong.split(".");
  const shot = document.getElementById(`shot-${Number(row) + 1}`);
  const field = list === "shots" ? shot?.querySelector(`[name=shot_${name}]`) : document.getElementById(list);
  field?.setAttribute("aria-invalid", "true");
}

document.addEventListener("htmx:afterSwap", (event) => {
  const news = event.target.id === "meter" && event.target.querySelector("#news");
  if (news) place(news);
});

function press(shot) {
  const prompt = ` ${shot.querySelector("[name=shot_prompt]").value.replaceAll(",", " ")} `;
  for (const button of shot.querySelectorAll(".word")) {
    button.setAttribute("aria-pressed", String(prompt.includes(` ${button.dataset.word} `)));
  }
}

board?.addEventListener("click", (event) => {
  const button = event.target.closest(".word");
  if (!button) return;
  event.preventDefault();
  const field = button.closest(".shot").querySelector("[name=shot_prompt]");
  const { word, separator } = button.dataset;
  if (button.getAttribute("aria-pressed") === "true") {
    const part = field.value.includes(separator + word) ? separator + word : word;
    field.value = field.value.replace(part, "").replace(/^[ ,]+|[ ,]+$/g, "");
  } else field.value = field.value.trim() ? field.value.trim() + separator + word : word;
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
