
"use strict";
// Shows the pairs, keeps the answers in the browser, and saves them as a file.
const study = JSON.parse(document.getElementById("data").textContent);
const QUESTIONS = ["better", "lost", "invented"];
const KEYS = { 1: "left", 2: "right", 3: "both", 0: "none" };
const ZOOMS = [1, 2, 4, 8];
const at = id => document.getElementById(id);
const sets = [...document.querySelectorAll("fieldset")];
const panes = [...document.querySelectorAll(".pane")];
// in the order of a pair's numbers: left, right and, where there is one, the reference
const shown = [at("left"), at("right"), document.querySelector("#between img")].filter(Boolean);
let reader = "", answers = [], pair = 0, asked = 0, view = { zoom: 1, x: 0, y: 0 };

const valid = (question, value) =>
  sets[QUESTIONS.indexOf(question)].querySelector(`[data-value="${value}"]`) !== null;
const complete = answer => QUESTIONS.every(question => answer[question] !== undefined);
const warn = text => { at("warning").textContent = text; at("warning").hidden = false; };
const place = () => `lle_jax reader study ${study.study} ${reader}`;

function restore() {
  answers = study.pairs.map(() => ({}));
  try {
    const kept = JSON.parse(localStorage.getItem(place())) ?? [];
    answers.forEach((answer, i) => QUESTIONS.forEach(question => {
      const value = kept[i]?.[question];
      if (Object.values(KEYS).includes(value) && valid(question, value)) answer[question] = value;
    }));
  } catch { warn("Earlier answers could not be read from this browser."); }
}

function keep() {
  try { localStorage.setItem(place(), JSON.stringify(answers)); } catch {
    warn("This browser does not keep answers: save them as a file before you close the page.");
  }
}

function only(section) {
  for (const id of ["start", "study", "end"]) at(id).hidden = id !== section;
}

function show(number) {
  if (number >= answers.length) {
    number = answers.findIndex(answer => !complete(answer));
    if (number < 0) {
      only("end");
      document.querySelector("#end h1").focus();
      return;
    }
  }
  pair = Math.max(number, 0);
  only("study");
  shown.forEach((image, side) => {
    image.src = "data:image/png;base64," + study.images[study.pairs[pair][side]];
  });
  asked = Math.max(QUESTIONS.findIndex(question => answers[pair][question] === undefined), 0);
  look({ zoom: 1, x: 0, y: 0 });
  mark();
}

function mark() {
  sets.forEach((set, i) => {
    set.classList.toggle("asked", i === asked);
    for (const button of set.querySelectorAll("button")) {
      const chosen = answers[pair][QUESTIONS[i]] === button.dataset.value;
      button.setAttribute("aria-pressed", chosen);
    }
  });
  const done = answers.filter(complete).length;
  at("place").textContent = `Pair ${pair + 1} of ${answers.length}, ${done} answered`;
  at("previous").disabled = pair === 0;
}

function answer(question, value) {
  if (!valid(QUESTIONS[question], value)) return;
  const before = complete(answers[pair]);
  answers[pair][QUESTIONS[question]] = value;
  keep();
  const open = QUESTIONS.findIndex(name => answers[pair][name] === undefined);
  // an answer to the last open question goes on; so does the last key when answers are changed
  if (open < 0 && (!before || question === QUESTIONS.length - 1)) return show(pair + 1);
  asked = open < 0 ? question + 1 : open;
  mark();
}

// One view for all images: `zoom` about the middle, then moved by x and y, in pixels of the page.
function look(wanted) {
  const zoom = Math.min(Math.max(wanted.zoom, 1), 16);
  const { clientWidth, clientHeight } = panes[0];
  const within = (value, size) => {
    const most = size * (zoom - 1) / 2;
    return Math.min(Math.max(value, -most), most);
  };
  view = { zoom, x: within(wanted.x, clientWidth), y: within(wanted.y, clientHeight) };
  for (const image of shown) {
    image.style.transform = `translate(${view.x}px, ${view.y}px) scale(${zoom})`;
  }
}

function zoomStep() {
  const zoom = ZOOMS.find(step => step > view.zoom) ?? 1;
  look({ zoom, x: view.x * zoom / view.zoom, y: view.y * zoom / view.zoom });
}

function full() {
  const change = document.fullscreenElement
    ? document.exitFullscreen() : document.documentElement.requestFullscreen();
  change.catch(() => warn("This browser does not allow the full screen."));
}

function save() {
  const given = answers.map((answer, i) => ({ pair: i, ...answer })).filter(complete);
  const text = JSON.stringify({
    kind: "lle_jax reader study answers", format: 1, study: study.study, reader, answers: given,
  }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = `answers-${study.study}-${reader.replace(/[^\w-]/g, "_")}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

panes.forEach(pane => {
  let from = null;
  pane.addEventListener("wheel", event => {
    event.preventDefault();
    const box = pane.getBoundingClientRect();
    const zoom = Math.min(Math.max(view.zoom * Math.exp(-event.deltaY / 400), 1), 16);
    const x = event.clientX - box.left - box.width / 2, y = event.clientY - box.top - box.height / 2;
    const by = zoom / view.zoom;
    look({ zoom, x: x - (x - view.x) * by, y: y - (y - view.y) * by });
  }, { passive: false });
  pane.addEventListener("pointerdown", event => {
    pane.setPointerCapture(event.pointerId);
    from = { x: event.clientX - view.x, y: event.clientY - view.y };
  });
  pane.addEventListener("pointermove", event => {
    if (from) look({ zoom: view.zoom, x: event.clientX - from.x, y: event.clientY - from.y });
  });
  for (const type of ["pointerup", "pointercancel"]) pane.addEventListener(type, () => from = null);
});

sets.forEach((set, question) => set.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (button) answer(question, button.dataset.value);
}));
at("who").addEventListener("submit", event => {
  event.preventDefault();
  reader = at("reader").value.trim();
  if (!reader) return;
  restore();
  show(answers.length);
});
at("previous").addEventListener("click", () => show(pair - 1));
at("next").addEventListener("click", () => show(pair + 1));
at("zoom").addEventListener("click", zoomStep);
at("full").addEventListener("click", full);
at("back").addEventListener("click", () => show(0));
for (const button of document.querySelectorAll(".save")) button.addEventListener("click", save);
window.addEventListener("resize", () => look(view));

const MOVES = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
document.addEventListener("keydown", event => {
  if (at("study").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const { key } = event;
  if (event.shiftKey && key in MOVES) {
    const [x, y] = MOVES[key];
    look({ zoom: view.zoom, x: view.x + 40 * x, y: view.y + 40 * y });
  } else if (event.repeat) return;  // a key held down must not answer the next pair
  else if (key in KEYS) answer(asked, KEYS[key]);
  else if (key === "ArrowLeft") show(pair - 1);
  else if (key === "ArrowRight") show(pair + 1);
  else if (key.toLowerCase() === "z") zoomStep();
  else if (key.toLowerCase() === "f") full();
  else return;
  event.preventDefault();
});
