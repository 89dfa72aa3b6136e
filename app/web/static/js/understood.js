// The price comes with what the model takes from each prompt; these lines are put under their prompts. Ctrl+Enter orders.

document.addEventListener("htmx:afterSwap", (event) => {
  for (const line of event.target.querySelectorAll?.("[data-for]") ?? []) {
    document.getElementById(line.dataset.for)?.replaceChildren(...line.childNodes);
  }
});

document.addEventListener("keydown", (event) => {
  const form = event.target.closest?.("#compose");
  if (!form || event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  const button = document.getElementById("generate");
  if (!button.disabled) form.requestSubmit(button);
});
