// What the page shows, and what a person can do: stages, colours, open modules, selection, search, camera, keys.

const $ = (id) => document.getElementById(id);
const canvas = $("canvas"), world = $("world"), panel = $("panel"), map = $("map");

const MOST_BOXES = 70; // modules are opened at the start as long as not more boxes than this are seen
const FOOT = 46; // height of the legend, which lies over the graph
const ZOOMS = { least: 0.02, most: 3, legible: 0.75, start: 0.45, whole: 1.1, titles: 0.3, labels: 0.6 };

const state = { stage: 0, colour: "dtype", open: new Set(), selected: null, changes: false, picture: null,
  camera: { x: 0, y: 0, k: 1 },
  fitted: true, // everything is in sight because nobody has moved the camera
  strips: true, // long graphs are cut into strips
  tallest: Infinity, // height of a strip
};

const stageNow = () => STAGES[state.stage];

// --- drawing ----------------------------------------------------------------------------------------------------------------

// paths of the frames that are open at this stage
function openHere() {
  return new Set([...state.open].filter((path) => path !== "" && stageNow().frames.has(path)));
}

function redraw() {
  const stage = stageNow();
  state.picture = drawing(stage, openHere(), state.tallest);
  world.innerHTML = drawn(state.picture, state.colour, marks());
  const { width, height } = state.picture;
  map.setAttribute("viewBox", `0 0 ${width} ${height}`);
  map.innerHTML = overview(state.picture);
  $("legend").innerHTML = legendHtml(stage, state.colour);
  showSelected();
  moveCamera(state.camera);
}

function marks() {
  const { added, changed } = stageNow().changes;
  return new Map(state.changes ? [...added.map((id) => [id, "added"]), ...changed.map((id) => [id, "changed"])] : []);
}

function moveCamera(camera) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const { picture } = state;
  // at least a part of the graph stays in sight
  camera.x = Math.min(width - 60, Math.max(60 - picture.width * camera.k, camera.x));
  camera.y = Math.min(height - 60, Math.max(60 - picture.height * camera.k, camera.y));
  state.camera = camera;
  world.setAttribute("transform", `translate(${camera.x.toFixed(2)},${camera.y.toFixed(2)}) scale(${camera.k.toFixed(4)})`);
  canvas.classList.toggle("far", camera.k < ZOOMS.titles);
  canvas.classList.toggle("mid", camera.k < ZOOMS.labels);
  const view = $("view");
  const seen = { x: -camera.x / camera.k, y: -camera.y / camera.k, width: width / camera.k, height: height / camera.k };
  for (const [name, value] of Object.entries(seen)) view.setAttribute(name, value);
  map.classList.toggle("needless", seen.width >= picture.width && seen.height >= picture.height);
}

function moveByHand(camera) {
  state.fitted = false;
  moveCamera(camera);
}

function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const { camera } = state;
  const k = Math.min(ZOOMS.most, Math.max(ZOOMS.least, camera.k * factor));
  moveByHand({ x: x - ((x - camera.x) * k) / camera.k, y: y - ((y - camera.y) * k) / camera.k, k });
}

function pan(dx, dy) {
  moveByHand({ ...state.camera, x: state.camera.x + dx, y: state.camera.y + dy });
}

// Everything, as large as it can be; if that is smaller than `least`, its beginning at another zoom.
function fit(least = ZOOMS.least, otherwise = least) {
  arrange(least, otherwise);
  const { width, height } = state.picture;
  const whole = wholeZoom(state.picture);
  const k = whole < least ? otherwise : whole;
  const from = (room, size) => (size * k < room ? (room - size * k) / 2 : 12);
  moveCamera({ x: state.strips ? from(canvas.clientWidth, width) : (canvas.clientWidth - width * k) / 2, y: from(canvas.clientHeight - FOOT, height), k });
  state.fitted = true;
}

// the zoom at which all of it is in sight
function wholeZoom({ width, height }) {
  return Math.min(ZOOMS.whole, (canvas.clientWidth / width) * 0.97, ((canvas.clientHeight - FOOT) / height) * 0.99);
}

// Cuts the graph into the strips with which it is seen largest; into strips as high as the window where that is still too small.
function arrange(least, otherwise) {
  const tallest = state.strips ? bestHeight(least, otherwise) : Infinity;
  if (tallest === state.tallest && state.picture) return;
  state.tallest = tallest;
  redraw();
}

function bestHeight(least, otherwise) {
  const size = (tallest) => composed(stageNow(), "", openHere(), tallest);
  const { width, height } = size(Infinity);
  const room = { width: canvas.clientWidth, height: canvas.clientHeight - FOOT };
  const likely = Math.sqrt((height * room.width) / (width * room.height)); // strips, were there no frames
  const heights = [0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.15, 1.3].map((factor) => height / Math.max(1, likely * factor));
  const zooms = [Infinity, ...heights].map((tallest) => ({ tallest, k: wholeZoom(size(tallest)) }));
  const best = zooms.reduce((best, each) => (each.k > best.k * 1.02 ? each : best));
  return best.k < least ? room.height / otherwise - TURN : best.tallest;
}

function centre(box) {
  const place = state.picture.places.get(box);
  const k = Math.max(state.camera.k, ZOOMS.legible);
  moveByHand({ x: canvas.clientWidth / 2 - (place.x + place.width / 2) * k, y: canvas.clientHeight / 2 - (place.y + Math.min(place.height, 200) / 2) * k, k });
}

// Keeps a box where it is on the screen while something else changes.
function keeping(box, change) {
  const before = state.picture?.places.get(box);
  const spot = before && { x: before.x * state.camera.k + state.camera.x, y: before.y * state.camera.k + state.camera.y };
  const after = change() ?? box;
  const place = state.picture.places.get(after);
  if (!spot || !place) return;
  const { k } = state.camera;
  moveCamera({ x: spot.x + ((before.width - place.width) * k) / 2 - place.x * k, y: spot.y - place.y * k, k });
}

// --- modules ----------------------------------------------------------------------------------------------------------------

// modules by depth, the model itself being 0
function framesByDepth() {
  const levels = [];
  for (const path of stageNow().frames.keys()) {
    const depth = wayTo(stageNow(), path).length - 1;
    (levels[depth] ||= []).push(path);
  }
  return levels;
}

function openAtFirst() {
  let boxes = stageNow().frames.get("").boxes.length;
  for (const level of framesByDepth().slice(1)) {
    boxes += level.reduce((sum, path) => sum + stageNow().frames.get(path).boxes.length - 1, 0);
    if (boxes > MOST_BOXES) break;
    level.forEach((path) => state.open.add(path));
  }
  // a model that is nothing but one module in it would be a single box
  const alone = stageNow().frames.get("").boxes.filter((box) => typeof box === "string");
  if (alone.length === 1) state.open.add(alone[0]);
}

function toggle(path) {
  state.fitted = false;
  keeping(path, () => {
    if (!state.open.delete(path)) state.open.add(path);
    redraw();
  });
}

// opens the outermost level that has a closed module, or closes the innermost that has an open one
function step(deeper) {
  const levels = framesByDepth().slice(1);
  const isOpen = (path) => state.open.has(path);
  const level = deeper ? levels.find((paths) => !paths.every(isOpen)) : levels.reverse().find((paths) => paths.some(isOpen));
  if (!level) return;
  level.forEach((path) => (deeper ? state.open.add(path) : state.open.delete(path)));
  redraw();
  state.tallest = null; // what was best for fewer boxes
  fit(ZOOMS.titles);
}

function reveal(box) {
  const around = wayTo(stageNow(), box).slice(1, -1);
  const closed = around.filter((path) => !state.open.has(path));
  if (!closed.length) return;
  closed.forEach((path) => state.open.add(path));
  redraw();
}

// --- selection --------------------------------------------------------------------------------------------------------------

function select(box) {
  state.selected = box;
  showSelected();
  if (box !== null) uncover(box);
}

// moves what the panel or the overview has come to lie over
function uncover(box) {
  const place = state.picture.places.get(box);
  const over = (place.x + Math.min(place.width, BOX.width)) * state.camera.k + state.camera.x + 140 - canvas.clientWidth;
  if (over > 0) pan(-over, 0);
}

function go(box) {
  reveal(box);
  select(box);
  centre(box);
}

function showSelected() {
  const box = state.selected;
  canvas.classList.toggle("picked", box !== null);
  for (const element of world.querySelectorAll(".selected, .near")) element.classList.remove("selected", "near");
  panel.hidden = box === null && !state.changes;
  if (box === null) {
    if (state.changes) panel.innerHTML = changesPanel(stageNow());
    return;
  }
  panel.innerHTML = panelHtml(state.stage, box);
  const key = String(box);
  for (const element of world.querySelectorAll("[data-box]")) if (element.dataset.box === key) element.classList.add("selected");
  for (const edge of world.querySelectorAll(".edge")) if (edge.dataset.from === key || edge.dataset.to === key) edge.classList.add("near");
}

// the value that the selected box reads first, or the first reader of its own
function walk(down) {
  const stage = stageNow();
  const from = state.selected;
  if (from === null) return go(stage.frames.get("").boxes[0]);
  const edges = state.picture.edges.filter((edge) => (down ? edge.from : edge.to) === from);
  if (edges.length) go(down ? edges[0].to : edges[0].from);
}

// --- stages -----------------------------------------------------------------------------------------------------------------

function showStage(number) {
  if (number < 0 || number >= STAGES.length || number === state.stage) return;
  const [before, after, fitted] = [stageNow(), STAGES[number], state.fitted];
  const anchor = state.selected ?? nearest();
  const same = typeof anchor === "number" ? after.number.get(before.cards[anchor].id) : after.frames.has(anchor) ? anchor : undefined;
  keeping(anchor, () => {
    state.stage = number;
    state.selected = state.selected === null ? null : (same ?? null);
    if (after.name === "compiled") openRegions(after);
    if (state.selected !== null) reveal(state.selected);
    stageBar();
    redraw();
    return same;
  });
  if (fitted) fit(ZOOMS.titles);
}

// compiled regions, and the modules inside of them that are open at the other stages
function openRegions(compiled) {
  for (const path of compiled.frames.keys()) {
    const [, region, inside] = path.match(/^(.*?region_\d+)\.?(.*)$/) || [];
    if (region && (!inside || state.open.has(inside))) state.open.add(path);
  }
}

// the box closest to the middle of the canvas
function nearest() {
  const { x, y, k } = state.camera;
  const [cx, cy] = [(canvas.clientWidth / 2 - x) / k, (canvas.clientHeight / 2 - y) / k];
  let [best, least] = [undefined, Infinity];
  for (const [box, place] of state.picture.places) {
    const distance = Math.hypot(place.x + place.width / 2 - cx, place.y + place.height / 2 - cy);
    if (!place.open && distance < least) [best, least] = [box, distance];
  }
  return best;
}

function stageBar() {
  $("stages").innerHTML = STAGES.map(({ name }, number) =>
    `<button role="tab" data-stage="${number}" aria-selected="${number === state.stage}" tabindex="${number === state.stage ? 0 : -1}">${name}</button>`).join("");
  $("story").innerHTML = storyHtml(stageNow());
  document.querySelector("#name span").textContent = [`${stageNow().cards.length} nodes`, DATA.profile].filter(Boolean).join(" · ");
  const button = $("changes");
  if (!button) state.changes = false;
  else button.setAttribute("aria-pressed", state.changes);
}

function toggleChanges() {
  state.changes = !state.changes;
  if (state.changes) state.selected = null;
  stageBar();
  redraw();
  if (state.fitted) fit(ZOOMS.titles);
}

// --- search -----------------------------------------------------------------------------------------------------------------

const hits = { boxes: [], at: -1 };

function search() {
  hits.boxes = found(stageNow(), $("query").value);
  hits.at = -1;
  $("hits").hidden = !$("query").value.trim();
  $("hits").classList.remove("brief");
  const items = hits.boxes.slice(0, 60).map((box, index) => `<li data-hit="${index}">${hitHtml(box)}</li>`);
  $("hits").innerHTML = `<li class="count">${hits.boxes.length} found</li>${items.join("")}`;
}

function hitHtml(box) {
  if (typeof box === "string") return `${chip("module")} <b>${escaped(box)}</b>`;
  const card = stageNow().cards[box];
  return `${chip(card.kind)} <b>${escaped(card.id)}</b> <small>${escaped(card.reason ? card.reason.why : card.what)}</small>`;
}

function goToHit(index) {
  if (!hits.boxes.length) return;
  hits.at = (index + hits.boxes.length) % hits.boxes.length;
  [...$("hits").querySelectorAll("[data-hit]")].forEach((item, number) => item.classList.toggle("at", number === hits.at));
  $("hits").classList.add("brief"); // out of the way of what was found
  $("hits").querySelector(".count").textContent = `${hits.at + 1} of ${hits.boxes.length}  ( Enter: next )`;
  go(hits.boxes[hits.at]);
}

// --- events -----------------------------------------------------------------------------------------------------------------

const KEYS = [
  ["← →", "stage before, stage after", () => 0],
  ["↑ ↓", "along the values, from the selected node", () => 0],
  ["/", "search", () => $("query").focus()],
  ["+", "zoom in; Ctrl with the wheel does it too", () => zoom(1.25)],
  ["-", "zoom out", () => zoom(0.8)],
  ["0", "show everything", () => fit()],
  ["]", "open one level of modules", () => step(true)],
  ["[", "close one level of modules", () => step(false)],
  ["c", "what the passes changed", () => $("changes") && toggleChanges()],
  ["w", "cut long graphs into strips, or not", toggleStrips],
  ["t", "light or dark", toggleTheme],
  ["Enter", "open or close the selected module", () => typeof state.selected === "string" && toggle(state.selected)],
  ["Escape", "close the panel", () => closePanel()],
  ["?", "these keys", () => $("keys").showModal()],
];

const ARROWS = { ArrowLeft: () => showStage(state.stage - 1), ArrowRight: () => showStage(state.stage + 1), ArrowUp: () => walk(false), ArrowDown: () => walk(true) };
const PANS = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] };

function closePanel() {
  if (state.changes) toggleChanges();
  select(null);
}

function toggleStrips() {
  state.strips = !state.strips;
  $("strips").setAttribute("aria-pressed", state.strips);
  fit(ZOOMS.start, ZOOMS.legible);
}

function toggleTheme() {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
}

document.addEventListener("keydown", (event) => {
  if ($("keys").open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input")) {
    if (event.key === "Enter") goToHit(hits.at + (event.shiftKey ? -1 : 1));
    if (event.key === "Escape") { $("query").value = ""; search(); canvas.focus(); }
    return;
  }
  if (event.target.matches("select")) return;
  if (event.shiftKey && PANS[event.key]) pan(...PANS[event.key]);
  else if (ARROWS[event.key]) ARROWS[event.key]();
  else {
    const row = KEYS.find(([key]) => key === event.key || (key === "+" && event.key === "="));
    if (!row || (event.key === "Enter" && event.target.matches("button, a"))) return;
    row[2]();
  }
  event.preventDefault();
});

$("stages").addEventListener("click", (event) => event.target.dataset.stage && showStage(Number(event.target.dataset.stage)));
$("story").addEventListener("click", (event) => event.target.closest("#changes") && toggleChanges());
$("query").addEventListener("input", search);
$("query").addEventListener("focus", search);
$("hits").addEventListener("click", (event) => {
  const item = event.target.closest("[data-hit]");
  if (item) goToHit(Number(item.dataset.hit));
});
$("colour").addEventListener("change", (event) => { state.colour = event.target.value; redraw(); });
$("in").addEventListener("click", () => zoom(1.25));
$("out").addEventListener("click", () => zoom(0.8));
$("fit").addEventListener("click", () => fit());
$("deeper").addEventListener("click", () => step(true));
$("shallower").addEventListener("click", () => step(false));
$("strips").addEventListener("click", toggleStrips);
$("theme").addEventListener("click", toggleTheme);
$("help").addEventListener("click", () => $("keys").showModal());
$("keys").addEventListener("click", () => $("keys").close());

panel.addEventListener("click", (event) => {
  const { go: target, stage } = event.target.dataset;
  if (event.target.id === "close") closePanel();
  if (target !== undefined && stageNow().cards[target]) go(Number(target));
  if (stage !== undefined) showStage(Number(stage));
  if (event.target.matches("a")) event.preventDefault();
});

let drag = null;
canvas.addEventListener("pointerdown", (event) => {
  drag = { x: event.clientX, y: event.clientY, moved: false, target: event.target };
  $("hits").hidden = true;
});
window.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
  if (!drag.moved && Math.hypot(dx, dy) < 4) return;
  Object.assign(drag, { x: event.clientX, y: event.clientY, moved: true });
  canvas.classList.add("dragged");
  pan(dx, dy);
});
window.addEventListener("pointerup", () => {
  if (drag && !drag.moved) clicked(drag.target);
  canvas.classList.remove("dragged");
  drag = null;
});

// the box that an element of the drawing belongs to
function boxOf(element) {
  const owner = element.closest("[data-box]");
  if (!owner) return null;
  return stageNow().frames.has(owner.dataset.box) ? owner.dataset.box : Number(owner.dataset.box);
}

function clicked(element) {
  const box = boxOf(element);
  if (box === null) return closePanel();
  if (element.closest(".toggle")) return toggle(box);
  select(box);
}

canvas.addEventListener("dblclick", (event) => {
  const box = boxOf(event.target);
  if (typeof box === "string" && !event.target.closest(".toggle")) toggle(box);
});

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const corner = canvas.getBoundingClientRect();
  if (event.ctrlKey || event.metaKey) zoom(Math.exp(-event.deltaY / 300), event.clientX - corner.left, event.clientY - corner.top);
  else pan(-(event.shiftKey ? event.deltaY : event.deltaX), event.shiftKey ? 0 : -event.deltaY);
}, { passive: false });

map.addEventListener("pointerdown", (event) => {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
  const { k } = state.camera;
  moveByHand({ x: canvas.clientWidth / 2 - point.x * k, y: canvas.clientHeight / 2 - point.y * k, k });
});

window.addEventListener("resize", () => state.fitted && fit(ZOOMS.titles));
new ResizeObserver(() => moveCamera(state.camera)).observe(canvas);

// --- start ------------------------------------------------------------------------------------------------------------------

document.querySelector("#name b").textContent = DATA.title;
$("colour").innerHTML = coloursKnown().map((name) => `<option value="${name}">${COLOURS[name].label}</option>`).join("");
$("keys").innerHTML = `<h2>Keys</h2><dl>${KEYS.map(([key, what]) => `<dt><kbd>${key}</kbd></dt><dd>${what}</dd>`).join("")}`
  + "<dt><kbd>Shift</kbd> <kbd>← → ↑ ↓</kbd></dt><dd>move the picture, as do the wheel and dragging</dd></dl>";
state.stage = Math.max(0, STAGES.findIndex(({ name }) => name === DATA.first));
openAtFirst();
stageBar();
fit(ZOOMS.start, ZOOMS.legible);
canvas.focus();
