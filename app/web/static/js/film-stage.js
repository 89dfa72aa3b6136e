// The film on the landing page. It plays, muted, once the page is painted and while it is in view; people who want less
// motion or less data start it themselves. Pictures load then too. Its price and its seconds count beside it; at the end they rest on the totals.

const STILL = matchMedia("(prefers-reduced-motion: reduce)");
const REST_MS = 2500;

const painted = new Promise((done) => {
  const observer = new PerformanceObserver((list) => {
    if (list.getEntriesByName("first-contentful-paint").length) done(observer.disconnect());
  });
  observer.observe({ type: "paint", buffered: true });
});

// Puts a number into a text such as ¥6.30 in place of the one there, with as many decimals.
const withNumber = (text, number, decimals) => text.replace(/\d[\d.,]*/, number.toFixed(decimals));
const numberOf = (text) => Number(text.replaceAll(",", "").match(/[\d.]+/)[0]);
const decimalsOf = (text) => (text.match(/\.(\d+)/)?.[1] ?? "").length;

class FilmStage extends HTMLElement {
  connectedCallback() {
    this.video = this.querySelector("video");
    this.bar = this.querySelector("progress");
    this.outputs = ["amount", "seconds"].map((name) => this.querySelector(`[data-count=${name}]`));
    this.totals = this.outputs.map((output) => output.textContent);
    this.video.muted = true;
    this.video.addEventListener("play", () => this.count());
    this.video.addEventListener("seeked", () => this.show());
    this.video.addEventListener("ended", () => (this.timer = setTimeout(() => this.start(), REST_MS)));
    this.listenToSound();
    painted.then(() => {
      for (const picture of document.querySelectorAll("img[data-src]")) picture.src = picture.dataset.src;
      this.watch();
    });
  }

  disconnectedCallback() {
    this.observer?.disconnect();
    clearTimeout(this.timer);
  }

  watch() {
    if (STILL.matches || navigator.connection?.saveData) return;
    this.observer = new IntersectionObserver(([entry]) => {
      this.visible = entry.isIntersecting;
      if (this.visible) this.start();
      else if (!this.video.paused) this.video.pause();
    }, { threshold: 0.3 });
    this.observer.observe(this);
    // A film that somebody has stopped stays stopped; one that left the view goes on when it returns.
    this.video.addEventListener("pause", () => (this.stopped = this.visible && !this.video.ended));
    this.video.addEventListener("play", () => (this.stopped = false));
  }

  start() {
    if (this.visible && !this.stopped) this.video.play().catch(() => {});
  }

  count() {
    this.show();
    if (!this.video.paused && !this.video.ended) requestAnimationFrame(() => this.count());
  }

  show() {
    const { currentTime, duration, ended } = this.video;
    const share = ended || !duration ? 1 : Math.min(1, currentTime / duration);
    this.bar.value = 1000 * share;
    this.outputs.forEach((output, number) => {
      const total = this.totals[number];
      const decimals = number === 0 ? decimalsOf(total) : 1;
      output.textContent = share === 1 ? total : withNumber(total, share * numberOf(total), decimals);
    });
  }

  listenToSound() {
    const button = this.querySelector("[data-sound]");
    if (!button) return;
    button.hidden = false;
    button.addEventListener("click", () => {
      this.video.muted = !this.video.muted;
      if (this.video.paused) this.video.play().catch(() => {});
    });
    this.video.addEventListener("volumechange", () => button.setAttribute("aria-pressed", String(!this.video.muted)));
  }
}

customElements.define("film-stage", FilmStage);
