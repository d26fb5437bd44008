(() => {
  "use strict";
  const { stop, left, width, bottom, kinds, lanes, passes, panels } = DATA;
  const svg = document.getElementById("plot");
  const byId = (id) => document.getElementById(id);
  const [surface, cross, chosen, tip, whole, ticks] =
    ["surface", "cross", "chosen", "tip", "whole", "ticks"].map(byId);
  const bands = [...svg.querySelectorAll(".band")];
  const STEP = 7; // numbers a task in lanes[i].p
  let from = 0, to = stop;

  const x = (time) => left + (width * (time - from)) / (to - from);
  const time = (event) => {
    const box = surface.getBoundingClientRect();
    const part = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    return from + part * (to - from);
  };
  const seconds = (t, digits) => `${t.toFixed(digits)} s`;
  const length = (t) =>
    t < 1e-3 ? `${(1e6 * t).toFixed(0)} \u00b5s` : t < 1 ? `${(1e3 * t).toPrecision(3)} ms` : `${t.toPrecision(3)} s`;
  const size = (n) => (n < 1e6 ? `${(n / 1e3).toFixed(1)} kB` : n < 1e9 ? `${(n / 1e6).toFixed(1)} MB` : `${(n / 1e9).toFixed(2)} GB`);
  const set = (element, values) => Object.entries(values).forEach(([name, value]) => element.setAttribute(name, value));
  const made = (name, values, text) => {
    const element = document.createElementNS(svg.namespaceURI, name);
    set(element, values);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  // The first index whose value is above: values ascend.
  const after = (n, value, wanted) => {
    let low = 0, high = n;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (value(middle) > wanted) high = middle;
      else low = middle + 1;
    }
    return low;
  };

  function drawTicks() {
    const raw = (to - from) / 10, unit = 10 ** Math.floor(Math.log10(raw));
    const step = unit * [1, 2, 2.5, 5, 10].find((f) => f * unit >= raw * 0.999);
    let digits = 0;
    while (digits < 7 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6) digits += 1;
    ticks.replaceChildren();
    for (let i = Math.ceil(from / step - 1e-9); i * step <= to * (1 + 1e-12); i += 1) {
      const at = x(i * step).toFixed(2);
      ticks.append(made("line", { x1: at, x2: at, y1: bottom, y2: bottom + 5 }));
      ticks.append(made("text", { x: at, y: bottom + 18 }, seconds(i * step, digits)));
    }
  }

  function draw() {
    const scale = stop / (to - from);
    svg.querySelector(".zoom").setAttribute(
      "transform", `translate(${left - scale * (left + (width * from) / stop)} 0) scale(${scale} 1)`);
    passes.forEach(({ a, b, label }, i) => {
      const begin = Math.max(x(a), left - 4), end = Math.min(x(b), left + width + 4), w = Math.max(0, end - begin);
      bands[i].querySelectorAll("rect").forEach((rect) => set(rect, { x: begin, width: w }));
      const letters = Math.floor((w - 14) / 6.1);
      const text = bands[i].querySelector("text");
      text.setAttribute("x", begin + 7);
      text.textContent = letters >= label.length ? label : letters >= 6 ? `${label.slice(0, letters - 1).trimEnd()}\u2026` : "";
    });
    svg.querySelectorAll("[data-t]").forEach((mark) => mark.setAttribute("cx", x(Number(mark.dataset.t))));
    svg.classList.toggle("close", scale > 6);
    whole.hidden = scale === 1;
    drawTicks();
  }

  function zoom(a, b) {
    const least = Math.max(stop / 2000, 1e-5);
    if (b - a < least) [a, b] = [(a + b - least) / 2, (a + b + least) / 2];
    const w = Math.min(b - a, stop);
    from = Math.min(Math.max(0, a), stop - w);
    to = from + w;
    draw();
  }

  function tell(event) {
    const t = time(event), box = svg.getBoundingClientRect();
    const y = ((event.clientY - box.top) * svg.viewBox.baseVal.height) / box.height;
    set(cross, { x1: x(t), x2: x(t), y1: 0, y2: bottom, style: "visibility:visible" });
    const lines = [];
    const line = (cls, bold, rest) => {
      const div = document.createElement("div");
      if (cls) div.append(Object.assign(document.createElement("i"), { className: cls }));
      div.append(Object.assign(document.createElement("b"), { textContent: bold }));
      div.append(Object.assign(document.createElement("span"), { textContent: rest }));
      lines.push(div);
    };
    const lane = lanes.find((one) => y >= one.y && y <= one.y + one.h);
    if (lane) {
      const p = lane.p, n = p.length / STEP, at = 1e6 * t, pixel = (1e6 * (to - from)) / width;
      const begin = (k) => p[k * STEP], end = (k) => begin(k) + p[k * STEP + 1];
      // The task under the pointer, or else the nearest one within two pixels.
      let i = after(n, end, at);
      const far = (k) => (k >= 0 && k < n ? Math.max(begin(k) - at, at - end(k)) : Infinity);
      if (far(i - 1) < far(i)) i -= 1;
      if (far(i) < 2 * pixel) {
        const [start, duration, kind, block, tasks, rows, bytes] = p.slice(i * STEP, (i + 1) * STEP);
        const name = kinds[kind] ?? "other", more = [length(duration / 1e6)];
        if (tasks > 1) more.unshift(`${tasks} tasks`);
        else if (block >= 0) more.unshift(`block ${block}`);
        if (rows) more.push(`${rows.toLocaleString("en")} rows`);
        if (bytes) more.push(`${size(bytes)}, ${((1e-3 * bytes) / duration).toFixed(2)} GB/s`);
        line(kinds[kind] ? `k-${name}` : "k-other", name, `  ${more.join(", ")}`);
      }
      line("", "", lane.name);
    }
    passes.filter(({ a, b }) => a <= t && t <= b).forEach(({ label }) => line("", "", `pass ${label}`));
    const values = panels.map((panel) => {
      const i = Math.min(panel.t.length - 1, after(panel.t.length, (k) => panel.t[k], t));
      return panel.name === "memory" ? size(1e6 * panel.v[i]) : `CPU ${panel.v[i].toFixed(0)} %`;
    });
    const digits = Math.max(0, Math.min(6, Math.ceil(-Math.log10((to - from) / 1000))));
    line("", seconds(t, digits), values.length ? `  ${values.join(", ")}` : "");
    tip.replaceChildren(...lines);
    const room = tip.getBoundingClientRect();
    const over = event.clientX + 16 + room.width > innerWidth;
    tip.style.left = `${over ? event.clientX - room.width - 14 : event.clientX + 16}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - room.height - 6))}px`;
    tip.style.visibility = "visible";
  }

  let begun = null;
  surface.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    begun = time(event);
    surface.setPointerCapture(event.pointerId);
  });
  surface.addEventListener("pointermove", (event) => {
    tell(event);
    if (begun === null) return;
    const [a, b] = [begun, time(event)].sort((p, q) => p - q);
    set(chosen, { x: x(a), y: 0, width: x(b) - x(a), height: bottom });
  });
  const finish = (event) => {
    if (begun === null) return;
    const [a, b] = [begun, time(event)].sort((p, q) => p - q);
    begun = null;
    chosen.setAttribute("width", 0);
    if (event.type === "pointerup" && x(b) - x(a) > 4) zoom(a, b);
  };
  surface.addEventListener("pointerup", finish);
  surface.addEventListener("pointercancel", finish);
  surface.addEventListener("pointerleave", () => {
    tip.style.visibility = "hidden";
    cross.setAttribute("style", "visibility:hidden");
  });
  // A pinch arrives as a wheel with Ctrl; the plain wheel stays the page's.
  surface.addEventListener("wheel", (event) => {
    const w = to - from;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      const t = time(event), factor = Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 100);
      zoom(t - (t - from) * factor, t + (to - t) * factor);
    } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) && w < stop) {
      event.preventDefault();
      zoom(from + (w * event.deltaX) / 800, to + (w * event.deltaX) / 800);
    }
  }, { passive: false });
  surface.addEventListener("dblclick", () => zoom(0, stop));
  whole.addEventListener("click", () => zoom(0, stop));
  document.querySelectorAll(".legend button").forEach((button) => {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", on);
      svg.querySelectorAll(".task").forEach((path) => {
        if (path.dataset.kind === button.dataset.kind) path.classList.toggle("off", !on);
      });
    });
  });
})();
