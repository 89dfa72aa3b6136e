// A film on a card plays, muted, while the mouse is over it. Touch screens and people who want less motion keep the
// poster.

const STILL = window.matchMedia("(prefers-reduced-motion: reduce), (hover: none)");
let timer;

function play(frame) {
  const video = document.createElement("video");
  Object.assign(video, { src: frame.dataset.film, muted: true, loop: true, playsInline: true, className: "hover-film" });
  video.addEventListener("playing", () => video.classList.add("plays"));
  frame.append(video);
  video.play().catch(() => video.remove());
}

document.addEventListener("mouseover", (event) => {
  const film = event.target.closest?.(".film");
  const frame = film?.querySelector(".film-frame[data-film]");
  if (!frame || STILL.matches || frame.querySelector("video")) return;
  clearTimeout(timer);
  timer = setTimeout(() => play(frame), 150);
  const leave = () => {
    clearTimeout(timer);
    frame.querySelector("video")?.remove();
  };
  film.addEventListener("mouseleave", leave, { once: true });
});
