// The API reference. The library asks nobody but this host: its validator, which is another's, stays off.
const place = document.querySelector("#api-reference");

// The library has a dark form of its own, chosen by a class; ours follows the visitor's choice, else the system's.
const theme = document.documentElement.dataset.theme;
const night = matchMedia("(prefers-color-scheme: dark)");
const dress = () => document.documentElement.classList.toggle("dark-mode", theme ? theme === "dark" : night.matches);
night.addEventListener("change", dress);
dress();

SwaggerUIBundle({
  url: place.dataset.document,
  domNode: place,
  // Its links to single addresses lie inside buttons, where neither keys nor screen readers find them.
  deepLinking: false,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
  plugins: [
    ({ React: { createElement, Fragment } }) => ({
      // What it says about the document as a whole stands at the head of our page.
      components: { InfoContainer: () => null },
      // The cross that closes its dialog has no name of its own, and its buttons have another than the one they show.
      wrapComponents: {
        Button: (Button) => (props) => createElement(Button, { ...props, "aria-label": undefined }),
        CloseIcon: (Icon) => (props) =>
          createElement(Fragment, null, createElement(Icon, props), createElement("span", { className: "out-of-sight" }, "Close the dialog")),
      },
    }),
  ],
});
