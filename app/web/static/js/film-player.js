// <film-player>: a strip of small pictures under the film. Hovering shows what is there, a click goes there; the video
// element's own controls stay as they are, so keyboards and screen readers lose nothing.

class FilmPlayer extends HTMLElement {
  connectedCallback() {
    this.video = this.querySelector("video");
    if (!this.hasAttribute("sprites")) return;
    this.geometry = JSON.parse(this.getAttribute("geometry"));
    this.fps = Number(this.getAttribute("fps"));
    this.sheet = new Image();
    this.sheet.addEventListener("load", () => this.draw(), { once: true });
    this.sheet.src = this.getAttribute("sprites");
  }

  draw() {
    this.wrap = document.createElement("div");
    this.wrap.className = "strip-wrap";
    this.wrap.innerHTML = '<button class="strip" type="button" tabindex="-1" aria-hidden="true"><canvas></canvas><span class="needle"></span></button><span class="peek" hidden></span>';
    this.append(this.wrap);
    const strip = this.wrap.querySelector(".strip");
    this.needle = this.wrap.querySelector(".needle");
    this.peek = this.wrap.querySelector(".peek");
    this.paint(strip);
    new ResizeObserver(() => this.paint(strip)).observe(strip);
    strip.addEventListener("pointermove", (event) => this.show(event, strip));
    strip.addEventListener("pointerleave", () => (this.peek.hidden = true));
    strip.addEventListener("click", (event) => (this.video.currentTime = this.place(event, strip) * this.video.duration));
    this.video.addEventListener("timeupdate", () => {
      this.needle.style.insetInlineStart = `${(100 * this.video.currentTime) / (this.video.duration || 1)}%`;
    });
  }

  paint(strip) {
    const canvas = strip.querySelector("canvas");
    const { tile_width: width, tile_height: height, columns } = this.geometry;
    const scale = devicePixelRatio || 1;
    canvas.width = strip.clientWidth * scale;
    canvas.height = strip.clientHeight * scale;
    const pen = canvas.getContext("2d");
    const shown = Math.max(1, Math.round(canvas.width / ((canvas.height * width) / height)));
    for (let place = 0; place < shown; place += 1) {
      const tile = this.tile((place + 0.5) / shown);
      const x = Math.round((place * canvas.width) / shown);
      const wide = Math.ceil(canvas.width / shown);
      pen.drawImage(this.sheet, (tile % columns) * width, Math.floor(tile / columns) * height, width, height, x, 0, wide, canvas.height);
    }
  }

  // The tile whose frame is the last one at or before this part of the film.
  tile(part) {
    const frames = this.geometry.tile_frames;
    const frame = part * (this.video.duration || frames.at(-1) / this.fps) * this.fps;
    const found = frames.findLastIndex((each) => each <= frame);
    return Math.max(0, found);
  }

  place(event, strip) {
    const box = strip.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  }

  show(event, strip) {
    const part = this.place(event, strip);
    const { tile_width: width, tile_height: height, columns } = this.geometry;
    const tile = this.tile(part);
    Object.assign(this.peek.style, {
      width: `${width / 2}px`,
      height: `${height / 2}px`,
      backgroundImage: `url("${this.sheet.src}")`,
      backgroundSize: `${(width * columns) / 2}px auto`,
      backgroundPosition: `-${((tile % columns) * width) / 2}px -${(Math.floor(tile / columns) * height) / 2}px`,
      left: `${100 * part}%`,
    });
    this.peek.hidden = false;
  }
}

customElements.define("film-player", FilmPlayer);
