// Drawing as SVG text: boxes, frames, edges with what flows on them, the overview, and the ways to colour all this.

// 160 stands for equal values
const DB = (value) => (value >= 160 ? "exact" : `${value.toFixed(1)} dB`);

const loss = (value) => Math.min(1, Math.max(0, (50 - value) / 40));

// Ways to colour: what a box says about itself, and how hot that is, from 0 to 1; "dtype" has a colour for each category.
const COLOURS = {
  dtype: { label: "dtype" },
  macs: { label: "MACs", of: (cost) => cost.macs, text: (value) => `${engineering(value)}`, heat: (value, most) => Math.sqrt(value / most), ends: ["none", "most"] },
  ms: { label: "latency", of: (cost) => cost.ms, text: (value) => `${value.toPrecision(2)} ms`, heat: (value, most) => Math.sqrt(value / most), ends: ["fast", "slow"] },
  sqnr: { label: "SQNR, alone", of: (cost) => cost.sqnr, text: DB, heat: loss, ends: ["50 dB and more", "10 dB and less"] },
  sqnr_so_far: { label: "SQNR, so far", of: (cost) => cost.sqnr_so_far, text: DB, heat: loss, ends: ["50 dB and more", "10 dB and less"] },
};

const CATEGORIES = ["int8", "dynamic", "weight_only", "float", "quantize", "dequantize", "observer", "shape", "input", "output"];

function coloursKnown() {
  const costs = Object.values(DATA.costs);
  return Object.keys(COLOURS).filter((name) => name === "dtype" || costs.some((cost) => COLOURS[name].of(cost)));
}

// box → {text, heat}, for the boxes that are seen, for a way of colouring by a number
function heatOf(stage, colour, boxes) {
  const { of, text, heat } = COLOURS[colour];
  const values = new Map(boxes.map((box) => [box, of(typeof box === "number" ? costOf(stage.cards[box]) : summed(stage, box))]));
  const most = Math.max(...[...values.values()].filter((value) => value !== undefined), 1e-9);
  return (box) => (values.get(box) === undefined ? null : { text: text(values.get(box)), heat: Math.min(1, heat(values.get(box), most)) });
}

function drawn(picture, colour, marks) {
  const { stage } = picture;
  const seen = [...picture.places].filter(([, place]) => !place.open);
  const heat = colour === "dtype" ? null : heatOf(stage, colour, seen.map(([box]) => box));
  const open = [...picture.insides.values()].filter((inside) => inside.path !== "");
  const frames = open.map(frameSvg);
  const titles = open.map((inside) => titleSvg(stage, inside)); // above the edges that cross them
  const boxes = seen.map(([box, place]) => boxSvg(stage, box, place, heat && heat(box), heat !== null, marks));
  return [...frames, ...picture.edges.map((edge) => edgeSvg(stage, edge)), ...labels(picture), ...titles, ...boxes].join("");
}

function frameSvg(inside) {
  return `<rect class="frame" data-box="${escaped(inside.path)}" x="${inside.x0}" y="${inside.y0}" width="${inside.width}" height="${inside.height}" rx="10"></rect>`;
}

function titleSvg(stage, inside) {
  const count = `${frameType(stage, inside.path)} ${cardsIn(stage, inside.path).length}`.trim();
  return `<g class="head" data-box="${escaped(inside.path)}" transform="translate(${inside.x0},${inside.y0})">`
    + `<g class="toggle"><rect x="8" y="6" width="16" height="16" rx="4"></rect><path d="M12,14h8"></path></g>`
    + `<text class="title" x="31" y="19">${escaped(clipped(frameTitle(stage, inside.path), 40))}<tspan class="count" dx="7">${escaped(count)}</tspan></text></g>`;
}

function boxSvg(stage, box, place, heat, byNumber, marks) {
  const isFrame = typeof box === "string";
  const card = stage.cards[box];
  const category = isFrame ? "module" : card.kind;
  const changed = isFrame ? cardsIn(stage, box).some((number) => marks.has(stage.cards[number].id)) && "changed" : marks.get(card.id);
  const classes = ["box", category, byNumber ? (heat ? "heat" : "cold") : "", changed || ""].filter(Boolean).join(" ");
  const [title, what] = isFrame ? [frameTitle(stage, box), [frameType(stage, box), mixText(stage, box)].filter(Boolean).join(" · ")] : [card.title, card.what === card.title ? card.kind : card.what];
  const badge = heat ? `<text class="badge" x="${BOX.width - 9}" y="18">${heat.text}</text>` : "";
  const left = isFrame ? 31 : 14;
  const badgeRoom = heat ? heat.text.length * 6.5 + 6 : 0;
  return `<g class="${classes}" data-box="${escaped(box)}" transform="translate(${place.x},${place.y})"${heat ? ` style="--heat:${(heat.heat * 100).toFixed(0)}%"` : ""}><title>${escaped(tooltip(stage, box))}</title>`
    + (isFrame ? `<rect class="behind" x="4" y="4" width="${BOX.width}" height="${BOX.height}" rx="8"></rect>` : "")
    + `<rect class="face" width="${BOX.width}" height="${BOX.height}" rx="8"></rect>`
    + (isFrame ? `<g class="toggle"><rect x="9" y="7" width="15" height="15" rx="4"></rect><path d="M12.5,14.5h8m-4,-4v8"></path></g>${mixBar(stage, box)}` : `<path class="side" d="M5,9v${BOX.height - 18}"></path>`)
    + `<text class="title" x="${left}" y="19">${escaped(fitting(title, "600 12.5px", BOX.width - left - 8 - badgeRoom))}</text>${badge}`
    + `<text class="what" x="${left}" y="35">${escaped(fitting(what, "11px", BOX.width - left - 8))}</text></g>`;
}

// what a box says when it is too small to be read
function tooltip(stage, box) {
  if (typeof box === "string") return [box, frameType(stage, box), mixText(stage, box)].filter(Boolean).join("\n");
  const card = stage.cards[box];
  return [card.id, card.what, ...valueLines(stage, card), ...(card.reason ? [`float: ${card.reason.why}`] : [])].join("\n");
}

function counted(stage, box) {
  const counts = new Map();
  for (const number of cardsIn(stage, box)) {
    const category = stage.cards[number].kind;
    counts.set(category, (counts.get(category) || 0) + 1);
  }
  return CATEGORIES.filter((category) => counts.has(category)).map((category) => [category, counts.get(category)]);
}

function mixText(stage, box) {
  return counted(stage, box).slice(0, 3).map(([category, count]) => `${count} ${category}`).join(", ");
}

// how many of what are in a closed frame, as a bar at its lower side
function mixBar(stage, box) {
  const counts = counted(stage, box);
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  let x = 9;
  return counts.map(([category, count]) => {
    const width = ((BOX.width - 18) * count) / total;
    const bar = `<rect class="mix ${category}" x="${x.toFixed(1)}" y="${BOX.height - 5}" width="${width.toFixed(1)}" height="2.5"></rect>`;
    x += width;
    return bar;
  }).join("");
}

function isInteger(card) {
  return /^(u8|s8)\[/.test(card.type);
}

function edgeSvg(stage, edge) {
  const integers = [...edge.values].some((number) => isInteger(stage.cards[number]));
  const rises = edge.points[edge.points.length - 1].y <= edge.points[0].y;
  const back = rises && !edge.points.some(({ corner }) => corner) ? " back" : "";
  const values = [...edge.values].slice(0, 8).map((number) => [stage.cards[number].id, ...valueLines(stage, stage.cards[number])].join("  "));
  return `<path class="edge${integers ? " integers" : ""}${back}" data-from="${escaped(edge.from)}" data-to="${escaped(edge.to)}" d="${curve(edge.points)}" marker-end="url(#arrow)">`
    + `<title>${escaped(values.join("\n"))}</title></path>`;
}

// type of a value, and scale and zero point where it is integers or will be
function valueLines(stage, card) {
  const isKnown = card.scale && (isInteger(card) || PLANNED.includes(stage.name));
  return [shapeText(card.type), ...(isKnown ? [`s ${short(card.scale.scale)} · z ${card.scale.zero_point}`] : [])];
}

// stages whose values are still float, and will have the scale that is known
const PLANNED = ["annotated", "observed"];

// type, scale and zero point of a value, once, below the box that it leaves
function labels(picture) {
  const said = new Set();
  return picture.edges.flatMap((edge) => {
    const [value, ...more] = edge.values;
    if (said.has(edge.from)) return [];
    said.add(edge.from);
    const card = picture.stage.cards[value];
    const [{ x, y }] = edge.points;
    const [type, scale] = more.length ? [`${more.length + 1} values`] : valueLines(picture.stage, card);
    const below = scale ? `<tspan x="${x + 7}" dy="11">${scale}</tspan>` : "";
    return [`<text class="value" x="${x + 7}" y="${y + 12}">${escaped(clipped(type, 34))}${below}</text>`];
  });
}

// --- overview ---------------------------------------------------------------------------------------------------------------

function overview(picture) {
  const { stage } = picture;
  const rects = [...picture.places].map(([box, place]) => {
    const category = place.open ? "open" : typeof box === "string" ? "module" : stage.cards[box].kind;
    return `<rect class="${category}" x="${place.x}" y="${place.y}" width="${place.width}" height="${place.height}"></rect>`;
  });
  return `${rects.join("")}<rect id="view"></rect>`;
}

function legendHtml(stage, colour) {
  if (colour !== "dtype") {
    const { ends } = COLOURS[colour];
    return `<span>${ends[0]}</span><i class="ramp"></i><span>${ends[1]}</span>`;
  }
  return counted(stage, "").map(([category, count]) => `<span><i class="chip ${category}"></i>${category} ${count}</span>`).join("");
}
