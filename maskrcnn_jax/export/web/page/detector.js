// The page of an exported detector. Beside it lie model.json (what the model is), the ONNX files that
// it names, and onnxruntime-web in runtime/.
//
// The functions that prepare a picture and paste masks do what the Python package does, to the bit
// where they compute with whole numbers; they are exported, and tested against it.

const ONE = 2048; // a weight of 1 in the fixed point of `resize`
const SHOWN = 640; // pixels of the long side to which a smaller picture is enlarged, by a whole factor

// ---------------------------------------------------------------- pictures, as the network gets them

/** Height and width to which a picture is resized (images/sizes.py, resized_size). */
export function resizedSize(height, width, {rule, short_side, long_side}, buckets) {
  if (rule === "short_side") {
    const scale = Math.min(short_side / Math.min(height, width), long_side / Math.max(height, width));
    const size = [Math.max(1, Math.trunc(height * scale)), Math.max(1, Math.trunc(width * scale))];
    if (buckets.some((bucket) => fits(size, bucket))) return size;
  }
  return largest(buckets.map((bucket) => largestInside(height, width, bucket)));
}

function largestInside(height, width, [rows, columns]) {
  if (rows * width <= columns * height) return [rows, Math.max(1, Math.floor((width * rows) / height))];
  return [Math.max(1, Math.floor((height * columns) / width)), columns];
}

const area = ([height, width]) => height * width;
const fits = (size, bucket) => size[0] <= bucket[0] && size[1] <= bucket[1];
const largest = (sizes) => sizes.reduce((best, size) => (area(size) > area(best) ? size : best));

/** Index of the smallest bucket that a picture of this size fits. */
export function chooseBucket(size, buckets) {
  let best = -1;
  buckets.forEach((bucket, i) => {
    if (fits(size, bucket) && (best < 0 || area(bucket) < area(buckets[best]))) best = i;
  });
  return best;
}

/** Along one axis: for each new pixel the two old ones and their weights, of 2048 in sum. */
function neighbours(length, wanted, weighsOutside) {
  const made = {first: new Int32Array(wanted), second: new Int32Array(wanted), low: new Int32Array(wanted), high: new Int32Array(wanted)};
  for (let i = 0; i < wanted; i++) {
    const position = Math.fround((i + 0.5) * (length / wanted) - 0.5);
    const cell = Math.floor(position), last = length - 1;
    const isOutside = cell < 0 || cell >= last;
    const fraction = isOutside && !weighsOutside ? 0 : Math.fround(position - cell);
    made.first[i] = Math.min(Math.max(cell, 0), last);
    made.second[i] = Math.min(Math.max(cell + 1, 0), last);
    made.low[i] = roundHalfEven(fraction * ONE);
    made.high[i] = roundHalfEven(Math.fround(1 - fraction) * ONE);
  }
  return made;
}

function roundHalfEven(x) {
  const floor = Math.floor(x), rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2) ? floor + 1 : floor;
}

/** Resizes RGBA to RGB bilinearly, in fixed point as OpenCV does: columns first, then rows. */
export function resize(pixels, height, width, rows, columns) {
  const made = new Uint8Array(rows * columns * 3);
  const x = neighbours(width, columns, false), y = neighbours(height, rows, true);
  const across = (row, j, c) =>
    (x.high[j] * pixels[4 * (row * width + x.first[j]) + c] + x.low[j] * pixels[4 * (row * width + x.second[j]) + c]) >> 4;
  for (let i = 0, at = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      for (let c = 0; c < 3; c++) {
        const upper = (y.high[i] * across(y.first[i], j, c)) >> 16;
        const lower = (y.low[i] * across(y.second[i], j, c)) >> 16;
        made[at++] = (upper + lower + 2) >> 2;
      }
    }
  }
  return made;
}

/** What the network gets of a picture: its input, the bucket's index, the size within it. */
export function prepared({data, height, width}, about) {
  const buckets = about.models.map((model) => model.bucket);
  const size = resizedSize(height, width, about.resize, buckets);
  const bucket = chooseBucket(size, buckets);
  const [rows, columns] = buckets[bucket];
  const image = new Uint8Array(rows * columns * 3);
  const resized = resize(data, height, width, ...size);
  for (let i = 0; i < size[0]; i++) {
    image.set(resized.subarray(3 * i * size[1], 3 * (i + 1) * size[1]), 3 * i * columns);
  }
  return {image, bucket, size};
}

// ---------------------------------------------------------------- masks, on the picture

/** Calls `paint(x, y)` for each pixel of a mask: a grid of probabilities in its box, pasted exactly. */
export function paste(grid, side, [x1, y1, x2, y2], height, width, paint) {
  const columns = tents(x1, x2, side, width), rows = tents(y1, y2, side, height);
  for (let y = rows.start; y < rows.end; y++) {
    const [i, v] = rows.at(y);
    for (let x = columns.start; x < columns.end; x++) {
      const [j, u] = columns.at(x);
      const upper = (1 - u) * cell(grid, side, i, j) + u * cell(grid, side, i, j + 1);
      const lower = (1 - u) * cell(grid, side, i + 1, j) + u * cell(grid, side, i + 1, j + 1);
      if ((1 - v) * upper + v * lower > 0.5) paint(x, y);
    }
  }
}

function tents(low, high, side, length) {
  const unit = Math.max(high - low, 1e-6) / side;
  return {
    start: Math.max(0, Math.floor(low - unit)),
    end: Math.min(length, Math.ceil(high + unit)),
    at(pixel) {
      const position = (pixel + 0.5 - low) / unit - 0.5, first = Math.floor(position);
      return [first, position - first];
    },
  };
}

const cell = (grid, side, i, j) => (i < 0 || j < 0 || i >= side || j >= side ? 0 : grid[i * side + j]);

/** A colour for each object; neighbours differ strongly (visualization/drawing.py). */
export function color(index) {
  const hue = (0.02 + index * 0.618033988749895) % 1;
  return `hsl(${Math.round(360 * hue)} 85% 48%)`;
}

// ---------------------------------------------------------------- the detector

/** Loads onnxruntime-web and the description of the model; sessions are made when first needed. */
export async function loadDetector(base) {
  const ort = await import(new URL("runtime/ort.wasm.min.mjs", base));
  ort.env.wasm.wasmPaths = new URL("runtime/", base).href;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? navigator.hardwareConcurrency : 1;
  const answer = await fetch(new URL("model.json", base));
  if (!answer.ok) throw new Error(`model.json: ${answer.status} ${answer.statusText}`);
  const about = await answer.json();
  const sessions = [];
  const session = (i) =>
    (sessions[i] ??= ort.InferenceSession.create(new URL(about.models[i].file, base).href, {executionProviders: ["wasm"]}));
  return {about, warm: () => session(0), detect: (picture) => detect(ort, about, session, picture)};
}

/** Detects the objects of a picture {data, height, width}; boxes are in its pixels, best first. */
async function detect(ort, about, session, picture) {
  const {image, bucket, size} = prepared(picture, about);
  const [rows, columns] = about.models[bucket].bucket;
  const run = await session(bucket);
  const start = performance.now();
  const {boxes, scores, classes, masks} = await run.run({
    image: new ort.Tensor("uint8", image, [1, rows, columns, 3]),
    image_size: new ort.Tensor("float32", Float32Array.from(size), [1, 2]),
  });
  const milliseconds = performance.now() - start;
  const side = masks.dims[1], scale = [picture.width / size[1], picture.height / size[0]];
  const limits = [picture.width, picture.height];
  const found = Array.from(scores.data, (score, k) => ({
    score,
    name: about.class_names[Number(classes.data[k]) - 1],
    box: Array.from(boxes.data.subarray(4 * k, 4 * k + 4), (x, i) => Math.min(Math.max(x * scale[i % 2], 0), limits[i % 2])),
    grid: masks.data.subarray(k * side * side, (k + 1) * side * side),
    side,
  }));
  return {found, milliseconds};
}

// ---------------------------------------------------------------- the page

async function start() {
  const by = (id) => document.getElementById(id);
  const canvas = by("picture"), context = canvas.getContext("2d");
  const say = (text, kind = "ok") => { by("status").textContent = text; by("status").dataset.kind = kind; };
  let detector, shown = null;

  function draw() {
    if (!shown) return;
    const lowest = Number(by("score").value);
    by("score-value").textContent = lowest.toFixed(2);
    const chosen = shown.found.filter((object) => object.score >= lowest);
    const {data, height, width} = shown.picture;
    // A small picture is enlarged, or its names would bury it.
    const scale = Math.max(1, Math.floor(SHOWN / Math.max(height, width)));
    [canvas.height, canvas.width, canvas.hidden] = [scale * height, scale * width, false];
    const picture = new OffscreenCanvas(width, height);
    picture.getContext("2d").putImageData(tinted(chosen, data, height, width), 0, 0);
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    outlined(context, chosen, scale);
    listed(by("found"), chosen);
    say(`${chosen.length} of ${shown.found.length} objects have this score; the model took ${Math.round(shown.milliseconds)} ms`);
  }

  async function look(source) {
    try {
      say("Looking at the picture");
      const picture = await pixels(source);
      shown = {picture, ...(await detector.detect(picture))};
      draw();
    } catch (error) {
      say(`This picture cannot be read or searched: ${error.message ?? error}`, "error");
    }
  }

  try {
    detector = await loadDetector(document.baseURI);
    await detector.warm();
    say("Ready: give a picture");
  } catch (error) {
    return say(`The model cannot be loaded: ${error.message ?? error}. Serve this folder over HTTP; browsers do not open it as a file.`, "error");
  }
  self.detector = detector; // for the console, and for tests

  by("file").addEventListener("change", () => by("file").files[0] && look(by("file").files[0]));
  by("score").addEventListener("input", draw);
  const zone = by("drop");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      zone.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files[0]) look(event.dataTransfer.files[0]);
    });
  }
  camera(by("camera"), by("shoot"), by("video"), look, say);
}

function camera(open, shoot, video, look, say) {
  let stream = null;
  const close = () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    [video.hidden, shoot.hidden, open.textContent] = [true, true, "Use the camera"];
  };
  open.addEventListener("click", async () => {
    if (stream) return close();
    try {
      stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}});
    } catch (error) {
      return say(`No camera: ${error.message ?? error}`, "error");
    }
    video.srcObject = stream;
    await video.play();
    [video.hidden, shoot.hidden, open.textContent] = [false, false, "Close the camera"];
    shoot.focus();
  });
  shoot.addEventListener("click", async () => {
    const picture = await createImageBitmap(video);
    close();
    look(picture);
  });
}

/** The pixels of a file or a bitmap, upright and without a change of colours. */
async function pixels(source) {
  const options = {imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none"};
  const bitmap = await createImageBitmap(source, options);
  const {height, width} = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
  context.drawImage(bitmap, 0, 0);
  return {data: context.getImageData(0, 0, width, height).data, height, width};
}

/** The picture with the masks laid over it, the best object on top. */
function tinted(objects, data, height, width) {
  const image = new ImageData(new Uint8ClampedArray(data), width, height);
  objects.forEach(({grid, side, box}, k) => {
    const [red, green, blue] = rgb(color(k));
    paste(grid, side, box, height, width, (x, y) => {
      const at = 4 * (y * width + x);
      image.data[at] = 0.55 * image.data[at] + 0.45 * red;
      image.data[at + 1] = 0.55 * image.data[at + 1] + 0.45 * green;
      image.data[at + 2] = 0.55 * image.data[at + 2] + 0.45 * blue;
    });
  });
  return image;
}

function rgb(css) {
  const context = new OffscreenCanvas(1, 1).getContext("2d");
  context.fillStyle = css;
  context.fillRect(0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data;
}

function outlined(context, objects, scale) {
  const {width} = context.canvas;
  const thickness = Math.max(1, Math.round(width / 400)), size = Math.max(10, Math.round(width / 50));
  [context.lineWidth, context.font, context.textBaseline] = [thickness, `${size}px system-ui, sans-serif`, "top"];
  [...objects.entries()].reverse().forEach(([k, {box, name, score}]) => {
    const [x1, y1, x2, y2] = box.map((x) => scale * x);
    context.strokeStyle = context.fillStyle = color(k);
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    const text = `${name} ${score.toFixed(2)}`, top = Math.max(0, y1 - size - 2);
    context.fillRect(x1, top, context.measureText(text).width + 4, size + 2);
    context.fillStyle = "#fff";
    context.fillText(text, x1 + 2, top + 1);
  });
}

function listed(table, objects) {
  const rows = objects.map(({name, score, box}, k) => {
    const row = document.createElement("tr"), swatch = document.createElement("span");
    [swatch.className, swatch.style.background] = ["swatch", color(k)];
    for (const text of [name, score.toFixed(2), box.map((x) => Math.round(x)).join(", ")]) {
      row.insertCell().textContent = text;
    }
    row.cells[0].prepend(swatch);
    return row;
  });
  table.tBodies[0].replaceChildren(...rows);
  table.hidden = !rows.length;
}

if (typeof document !== "undefined") start();
