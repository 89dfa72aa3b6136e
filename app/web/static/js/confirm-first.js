// A form with `data-confirm` opens a dialog before it is submitted, for actions that cannot be undone. `data-accept` and
// `data-decline` name the dialog's buttons. Without scripts the form is submitted at once.

import { say } from "./texts.js";

document.addEventListener(
  "submit",
  (event) => {
    const form = event.target;
    const question = form.dataset.confirm;
    if (!question || form.dataset.sure) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const button = event.submitter;
    const accept = form.dataset.accept || button?.textContent.trim() || say("Continue");
    const dialog = openDialog(question, accept, form.dataset.decline || say("Cancel"));
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (dialog.returnValue !== "yes") return button?.focus();
      form.dataset.sure = "yes";
      form.requestSubmit(button);
      delete form.dataset.sure;
    });
  },
  // In the capture phase, before htmx, which listens on the form itself.
  true,
);

function openDialog(question, accept, decline) {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "question");
  dialog.innerHTML = `<form method="dialog"><p id="question"></p><div class="row">
    <button class="button plain" value="no" autofocus></button><button class="button danger" value="yes"></button></div></form>`;
  dialog.querySelector("p").textContent = question;
  dialog.querySelector("[value=no]").textContent = decline;
  dialog.querySelector("[value=yes]").textContent = accept;
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
