// A small chart of a listener's lag over the last minute.

const SECONDS = 60;
const [WIDTH, HEIGHT] = [120, 20];
const STEP_SECONDS = 0.9; // more points than pixels cost time and show nothing
const SVG = "http://www.w3.org/2000/svg";

export class Sparkline {
  constructor(holder) {
    this.points = []; // [when, lag], in seconds
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    this.area = svg.appendChild(document.createElementNS(SVG, "path"));
    this.line = svg.appendChild(document.createElementNS(SVG, "path"));
    this.area.setAttribute("class", "area");
    this.line.setAttribute("class", "line");
    holder.replaceChildren(svg);
  }

  /** Adds a lag and draws the line. `limit` is the lag that fills the height, unless there was more. */
  show(lag, limit, now) {
    const { points } = this;
    // The newest point is always now's; the one before it stays once it is old enough.
    if (points.length > 1 && points.at(-1)[0] - points.at(-2)[0] < STEP_SECONDS) points.pop();
    points.push([now, lag]);
    while (points.length > 1 && points[1][0] < now - SECONDS) points.shift();

    const most = Math.max(limit, ...points.map(([, value]) => value));
    const x = (when) => (WIDTH * (1 - (now - when) / SECONDS)).toFixed(1);
    const y = (value) => (HEIGHT - 1 - (HEIGHT - 2) * Math.min(1, value / most)).toFixed(1);
    const path = points.map(([when, value], i) => `${i ? "L" : "M"}${x(when)} ${y(value)}`).join("");
    this.line.setAttribute("d", path);
    this.area.setAttribute("d", `${path}V${HEIGHT}H${x(points[0][0])}Z`);
  }
}
