// A form with `data-confirm` asks first, in a dialog of the page, before it does what cannot be undone. Without scripts
// it is sent at once.

document.addEventListener(
  "submit",
  (event) => {
    const form = event.target;
    const words = form.dataset.confirm;
    if (!words || form.dataset.sure) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const button = event.submitter;
    const dialog = ask(words, button?.textContent.trim() || "Go on");
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (dialog.returnValue !== "yes") return button?.focus();
      form.dataset.sure = "yes";
      form.requestSubmit(button);
      delete form.dataset.sure;
    });
    dialog.showModal();
  },
  // Before htmx, which listens at the form itself.
  true,
);

function ask(words, act) {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "asked");
  dialog.innerHTML = `<form method="dialog"><p id="asked"></p><div class="row">
    <button class="button plain" value="no" autofocus>Leave it</button><button class="button danger" value="yes"></button></div></form>`;
  dialog.querySelector("p").textContent = words;
  dialog.querySelector("[value=yes]").textContent = act;
  document.body.append(dialog);
  return dialog;
}
