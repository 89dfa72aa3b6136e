// A film on a card plays, muted, while the mouse is over it. Touch screens and people who want less motion keep the
// poster.

const STILL = window.matchMedia("(prefers-reduced-motion: reduce), (hover: none)");
const WAIT_MS = 150;
let waiting = null;

function play(frame) {
  const video = document.createElement("video");
  Object.assign(video, { src: frame.dataset.film, muted: true, loop: true, playsInline: true, className: "hover-film" });
  video.ariaHidden = "true";
  video.addEventListener("playing", () => video.classList.add("plays"), { once: true });
  frame.append(video);
  video.play().catch(() => video.remove());
}

document.addEventListener("mouseover", (event) => {
  const film = event.target.closest?.(".film");
  const frame = film?.querySelector(".film-frame[data-film]");
  if (!frame || STILL.matches || frame.querySelector("video") || waiting?.frame === frame) return;
  clearTimeout(waiting?.timer);
  waiting = { frame, timer: setTimeout(() => play(frame), WAIT_MS) };
  film.addEventListener(
    "mouseleave",
    () => {
      clearTimeout(waiting?.timer);
      waiting = null;
      frame.querySelector("video")?.remove();
    },
    { once: true },
  );
});
