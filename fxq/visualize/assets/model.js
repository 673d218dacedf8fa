// The data of the page with what is looked up in it: cards by id, frames by path, the way from the model down to each box.

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

const DATA = await unpacked(document.getElementById("data").textContent);

// what the data leaves out of a card
const NOTHING = { type: "", path: "", source: "", rule: "", spec: "", input_spec: "", weight_spec: "", group: "", scale: null, reason: null, refusals: [], calls: [] };

function indexed(data) {
  const stage = { ...data, cards: data.cards.map((card) => ({ ...NOTHING, ...card })) };
  const frames = new Map(stage.frames.map((frame) => [frame.path, frame]));
  const parent = new Map(); // box → path of the frame around it; a box is the number of a card or the path of a frame
  for (const frame of stage.frames) for (const box of frame.boxes) parent.set(box, frame.path);
  const number = new Map(stage.cards.map((card, index) => [card.id, index]));
  const readers = stage.cards.map(() => []);
  stage.cards.forEach((card, index) => card.reads.forEach((operand) => readers[operand].push(index)));
  return { ...stage, frames, parent, number, readers };
}

const STAGES = DATA.stages.map(indexed);

// frames from the model down to the box, and the box itself
function wayTo(stage, box) {
  const way = [box];
  while (way[0] !== "") way.unshift(stage.parent.get(way[0]));
  return way;
}

// numbers of all cards inside a box
function cardsIn(stage, box) {
  return typeof box === "number" ? [box] : stage.frames.get(box).boxes.flatMap((inner) => cardsIn(stage, inner));
}

function costOf(card) {
  return DATA.costs[card.id] || {};
}

// costs of everything in a box: MACs, bytes and milliseconds add up, of SQNRs the worst counts
function summed(stage, box) {
  const costs = cardsIn(stage, box).map((number) => costOf(stage.cards[number]));
  const known = (name) => costs.map((cost) => cost[name]).filter((value) => value !== undefined);
  const add = (name) => (known(name).length ? known(name).reduce((sum, value) => sum + value, 0) : undefined);
  const worst = (name) => (known(name).length ? Math.min(...known(name)) : undefined);
  return { macs: add("macs"), share: add("share"), bytes: add("bytes"), ms: add("ms"), sqnr: worst("sqnr"), sqnr_so_far: worst("sqnr_so_far") };
}

// features.3: the last part of a frame's path, behind that of the frame around it
function frameTitle(stage, path) {
  const around = stage.parent.get(path);
  const title = around ? path.slice(around.length + 1) : path || DATA.title;
  return around && /^\d+$/.test(title) ? path.split(".").slice(-2).join(".") : title;
}

function frameType(stage, path) {
  return stage.frames.get(path).type || "";
}

function searchText(card) {
  const reason = card.reason ? `${card.reason.why} ${card.reason.detail}` : "";
  return [card.id, card.path, card.what, card.text, card.kind, card.rule, reason, ...card.calls, ...card.refusals].join("\n").toLowerCase();
}

// 0 for the name itself, 1 for a part of it, 2 for what is found in the text alone
function nearness(name, words) {
  const names = [name.toLowerCase(), name.toLowerCase().replaceAll("_", ".")];
  if (names.some((each) => each === words.join(" "))) return 0;
  return names.some((each) => words.every((word) => each.includes(word))) ? 1 : 2;
}

// frames and cards in which every word of the query occurs
function found(stage, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const holds = (text) => words.every((word) => text.includes(word));
  const frames = [...stage.frames.keys()].filter((path) => path && holds(path.toLowerCase()));
  stage.texts ||= stage.cards.map(searchText);
  const cards = stage.texts.flatMap((text, number) => (holds(text) ? [number] : []));
  const rank = (box) => nearness(typeof box === "string" ? box : stage.cards[box].id, words);
  return [...cards, ...frames].sort((a, b) => rank(a) - rank(b)); // in order of execution where that is the same
}

const PREFIXES = ["", "k", "M", "G", "T"];

// 1814073344 → 1.81 G
function engineering(value) {
  let power = 0;
  while (value >= 999.5 && power < PREFIXES.length - 1) [value, power] = [value / 1000, power + 1];
  return `${power ? value.toPrecision(3) : Math.round(value)} ${PREFIXES[power]}`.trim();
}

function short(value) {
  return Number(value.toPrecision(4)).toString();
}

// u8[1, 64, 56, 56] → u8 1×64×56×56
function shapeText(type) {
  return type.replace(/(\w+)\[([^\]]*)\]/g, (_, dtype, shape) => `${dtype} ${shape.replaceAll(", ", "×")}`.trim());
}

function escaped(text) {
  return String(text).replace(/[&<>"]/g, (mark) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[mark]);
}

function clipped(text, length) {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

const PEN = document.createElement("canvas").getContext("2d");
const FAMILY = getComputedStyle(document.body).fontFamily;

// as much of a text as fits into a width in pixels
function fitting(text, font, width) {
  PEN.font = `${font} ${FAMILY}`;
  if (PEN.measureText(text).width <= width) return text;
  let [fits, end] = [0, text.length];
  while (end - fits > 1) {
    const middle = (fits + end) >> 1;
    [fits, end] = PEN.measureText(`${text.slice(0, middle)}…`).width <= width ? [middle, end] : [fits, middle];
  }
  return `${text.slice(0, fits)}…`;
}
