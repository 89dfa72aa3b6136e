// The API reference. Swagger UI calls only this host: its external validator is off.
const container = document.querySelector("#api-reference");

// Swagger UI's dark mode is a class; it follows the visitor's theme, else the system's.
const theme = document.documentElement.dataset.theme;
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const applyTheme = () =>
  document.documentElement.classList.toggle("dark-mode", theme ? theme === "dark" : systemDark.matches);
systemDark.addEventListener("change", applyTheme);
applyTheme();

SwaggerUIBundle({
  url: container.dataset.document,
  domNode: container,
  // Its deep links are inside buttons, where neither the keyboard nor screen readers reach them.
  deepLinking: false,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
  plugins: [
    ({ React: { createElement, Fragment } }) => ({
      // Our page's heading replaces its information box.
      components: { InfoContainer: () => null },
      // Its dialog's close icon has no accessible name, and its buttons' accessible names differ from their labels.
      wrapComponents: {
        Button: (Button) => (props) => createElement(Button, { ...props, "aria-label": undefined }),
        CloseIcon: (Icon) => (props) =>
          createElement(Fragment, null, createElement(Icon, props), createElement("span", { className: "out-of-sight" }, "Close the dialog")),
      },
    }),
  ],
});
