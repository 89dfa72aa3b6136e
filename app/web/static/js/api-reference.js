// The API reference. Swagger UI calls only this host: its external validator is off.
const container = document.querySelector("#api-reference");

// Swagger UI's dark mode is a class; it follows the visitor's theme, else the system's.
const theme = document.documentElement.dataset.theme;
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const applyTheme = () =>
  document.documentElement.classList.toggle("dark-mode", theme ? theme === "dark" : systemDark.matches);
systemDark.addEventListener("change", applyTheme);
applyTheme();

// As Swagger UI's own layout, whose second <main> would stand in the page's, with a heading above those of its groups.
const layout = ({ createElement, Fragment }) =>
  function Reference({ getComponent, specSelectors }) {
    const part = (name, isContainer = true) => createElement(getComponent(name, isContainer), { key: name });
    if (!specSelectors.specStr()) return createElement(Fragment, null, part("SvgAssets", false));
    const wide = (...parts) => createElement("div", { className: "wrapper" }, ...parts);
    return createElement(
      "div",
      { className: "swagger-ui" },
      part("SvgAssets", false),
      createElement("h2", { className: "out-of-sight" }, container.dataset.heading),
      createElement("div", { className: "scheme-container" }, wide(part("ServersContainer"), part("AuthorizeBtnContainer"))),
      part("errors"),
      wide(part("operations")),
      wide(part("Models")),
    );
  };

// Its dialog has a heading of the sixth level below one of the third.
new MutationObserver(() => {
  for (const heading of container.querySelectorAll(".modal-ux h6:not([aria-level])")) heading.ariaLevel = "5";
}).observe(container, { childList: true, subtree: true });

SwaggerUIBundle({
  url: container.dataset.document,
  domNode: container,
  // Its deep links are inside buttons, where neither the keyboard nor screen readers reach them.
  deepLinking: false,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
  layout: "Reference",
  plugins: [
    ({ React: { createElement, Fragment } }) => ({
      // Our page's heading replaces its information box.
      components: { InfoContainer: () => null, Reference: layout({ createElement, Fragment }) },
      // Its dialog's close icon has no accessible name, and its buttons' accessible names differ from their labels.
      wrapComponents: {
        Button: (Button) => (props) => createElement(Button, { ...props, "aria-label": undefined }),
        CloseIcon: (Icon) => (props) =>
          createElement(Fragment, null, createElement(Icon, props), createElement("span", { className: "out-of-sight" }, "Close the dialog")),
      },
    }),
  ],
});
