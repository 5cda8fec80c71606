
"use strict";
// The viewer: two pictures divided by a line, the error against the truth, enlarged regions.
const { cases, metrics } = JSON.parse(document.getElementById("data").textContent);
const [stage, caption, divide, error, lenses] =
  ["stage", "caption", "divide", "error", "lenses"].map(id => document.getElementById(id));
const [chosen, left, right] = ["case", "left", "right"].map(id => document.getElementById(id));
const ENLARGED = 4;
const spot = { x: 0.5, y: 0.5 };

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function fill(select, names, value) {
  select.replaceChildren(...names.map(name => element("option", { value: name }, name)));
  select.value = names.includes(value) ? value : names[0];
}

function shown() { return cases[chosen.selectedIndex]; }

function layer(name, side) {
  const images = shown().images;
  const made = element("div", { className: side }, element("img", { src: images[name], alt: name }));
  if (error.getAttribute("aria-pressed") === "true")
    made.append(element("img", { src: images.clean, alt: "", className: "truth" }));
  return made;
}

function draw() {
  const over = layer(left.value, "over");
  stage.replaceChildren(layer(right.value, "base"), over, element("div", { className: "line" }));
  stage.classList.toggle("error", error.getAttribute("aria-pressed") === "true");
  stage.style.aspectRatio = shown().size.join(" / ");
  move(divide.value);
  magnify();
}

function move(share) {
  divide.value = share;
  stage.querySelector(".over").style.clipPath = `inset(0 ${100 - divide.value}% 0 0)`;
  stage.querySelector(".line").style.left = `${divide.value}%`;
  const what = error.getAttribute("aria-pressed") === "true" ? "error of " : "";
  caption.textContent = `${shown().label}: left ${what}${left.value}, right ${what}${right.value}`;
}

function magnify() {
  const { images, size: [width, height] } = shown();
  lenses.replaceChildren(...Object.entries(images).map(([name, src]) => {
    const image = element("img", { src, alt: `${name}, enlarged` });
    const lens = element("div", { className: "lens" }, image);
    const side = 160, wide = ENLARGED * side * Math.min(1, width / height);
    const high = wide * height / width;
    image.style.width = `${wide}px`;
    image.style.left = `${Math.min(0, Math.max(side - wide, side / 2 - spot.x * wide))}px`;
    image.style.top = `${Math.min(0, Math.max(side - high, side / 2 - spot.y * high))}px`;
    return element("figure", {}, lens, element("figcaption", {}, name));
  }));
}

function table() {
  const values = shown().metrics, names = Object.keys(metrics);
  const head = element("tr", {}, element("th", { className: "name" }, "method"),
    ...names.map(name => element("th", {}, metrics[name][0])));
  const rows = Object.entries(values).map(([method, found]) => element("tr", {},
    element("th", { className: "name" }, method),
    ...names.map(n => element("td", {}, n in found ? found[n].toFixed(metrics[n][1]) : "-"))));
  document.getElementById("values").replaceChildren(
    element("thead", {}, head), element("tbody", {}, ...rows));
}

function open(index) {
  chosen.selectedIndex = (index + cases.length) % cases.length;
  const names = Object.keys(shown().images);
  fill(left, names, left.value || "low");
  fill(right, names, right.value || names[1]);
  draw();
  table();
}

function point(event) {
  const box = stage.getBoundingClientRect();
  return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
}

if (cases.length) {
  fill(chosen, cases.map(each => each.label), cases[0].label);
  open(0);
  chosen.addEventListener("change", () => open(chosen.selectedIndex));
  document.getElementById("before").addEventListener("click", () => open(chosen.selectedIndex - 1));
  document.getElementById("after").addEventListener("click", () => open(chosen.selectedIndex + 1));
  for (const select of [left, right]) select.addEventListener("change", draw);
  divide.addEventListener("input", () => move(divide.value));
  error.addEventListener("click", () => {
    error.setAttribute("aria-pressed", error.getAttribute("aria-pressed") !== "true");
    draw();
  });
  const drag = event => move(Math.round(100 * point(event).x));
  stage.addEventListener("pointerdown", event => {
    stage.setPointerCapture(event.pointerId);
    Object.assign(spot, point(event));
    drag(event);
    magnify();
  });
  stage.addEventListener("pointermove", event => { if (event.buttons) drag(event); });
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  stage.addEventListener("keydown", event => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    spot.x = Math.min(1, Math.max(0, spot.x + 0.05 * steps[event.key][0]));
    spot.y = Math.min(1, Math.max(0, spot.y + 0.05 * steps[event.key][1]));
    magnify();
  });
  for (const button of document.querySelectorAll("[data-case]"))
    button.addEventListener("click", () => {
      open(cases.findIndex(each => each.label === button.dataset.case));
      document.getElementById("pictures").scrollIntoView();
    });
}
