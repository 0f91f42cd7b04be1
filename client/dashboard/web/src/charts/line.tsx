// A chart of lines over rounds, by uPlot. Charts of one page share their cursor.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { css, onTheme, seriesColor, seriesDash } from "./colors";

export interface Line {
  label: string;
  x: number[];
  y: number[];
}

interface Props {
  title: string;
  lines: Line[];
  /** A value in words, with its unit. */
  text: (value: number) => string;
  x?: string;
  height?: number;
  /** Lowest value of the axis, if it has one. */
  from?: number;
  sync?: string;
  onCanvas?: (canvas: HTMLCanvasElement | undefined) => void;
}

/** All lines over the same x: what a line lacks is a gap, which is passed over. */
function joined(lines: Line[]): uPlot.AlignedData {
  const xs = [...new Set(lines.flatMap((line) => line.x))].sort((a, b) => a - b);
  const at = new Map(xs.map((x, i) => [x, i]));
  const columns = lines.map((line) => {
    const column: (number | null)[] = new Array<number | null>(xs.length).fill(null);
    line.x.forEach((x, i) => {
      const y = line.y[i];
      const place = at.get(x);
      if (place !== undefined && y !== undefined && Number.isFinite(y)) column[place] = y;
    });
    return column;
  });
  return [xs, ...columns] as uPlot.AlignedData;
}

function tellNewest(chart: uPlot): void {
  const last = (chart.data[0]?.length ?? 0) - 1;
  if (last >= 0) chart.setLegend({ idx: last }, false);
}

function options({ lines, text, height = 190, from, sync, x = "round" }: Props, width: number): uPlot.Options {
  const axis = { stroke: css("--muted"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 }, font: "11px system-ui, sans-serif" };
  return {
    width,
    height,
    padding: [8, 18, 0, 0],
    legend: { show: true, live: true },
    cursor: { points: { size: 7 }, ...(sync === undefined ? {} : { sync: { key: sync } }), drag: { x: true, y: false } },
    scales: {
      x: { time: false },
      y: {
        range: (_, min, max) => {
          const low = from ?? min;
          const room = (max - low || Math.abs(max) || 1) * 0.06;
          return [from ?? min - room, max + room];
        },
      },
    },
    // Without a cursor the legend tells the newest values.
    hooks: {
      ready: [tellNewest],
      setData: [tellNewest],
      setCursor: [(chart) => chart.cursor.idx == null && tellNewest(chart)],
    },
    axes: [
      { ...axis, size: 28, values: (_, splits) => splits.map((value) => (Number.isInteger(value) ? String(value) : "")) },
      { ...axis, size: (_, values) => 16 + 6.4 * Math.max(3, ...(values ?? []).map((value) => value.length)), values: (_, splits) => splits.map((value) => text(value)) },
    ],
    series: [
      { label: x, value: (_, value) => (value == null ? "–" : String(value)) },
      ...lines.map((line, i) => ({
        label: line.label,
        stroke: seriesColor(i),
        dash: seriesDash(i),
        width: 1.6,
        spanGaps: true,
        points: { show: line.x.length < 40, size: 4 },
        value: (_: uPlot, value: number | null) => (value == null ? "–" : text(value)),
      })),
    ],
  };
}

export function LineChart(props: Props) {
  const { title, lines, text } = props;
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot>();
  const [theme, setTheme] = useState(0);
  useEffect(() => onTheme(() => setTheme((n) => n + 1)), []);
  const data = useMemo(() => joined(lines), [lines]);
  const shape = lines.map((line) => `${line.label}\u0000${line.x.length < 40}`).join("\u0001");

  useEffect(() => {
    const element = place.current;
    if (element === null) return undefined;
    const width = (): number => Math.max(120, element.clientWidth);
    const made = new uPlot(options(props, width()), data, element);
    chart.current = made;
    props.onCanvas?.(made.ctx.canvas);
    const observer = new ResizeObserver(() => made.setSize({ width: width(), height: props.height ?? 190 }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      chart.current = undefined;
      props.onCanvas?.(undefined);
    };
  }, [shape, theme, props.sync, props.from, props.height]);

  useEffect(() => {
    if (chart.current !== undefined && chart.current.data !== data) chart.current.setData(data);
  }, [data]);

  const last = lines.map((line) => `${line.label}: ${text(line.y.at(-1) ?? NaN)}`).join(", ");
  return (
    <figure class="chart">
      <figcaption>{title}</figcaption>
      <div ref={place} role="img" aria-label={`${title}. Newest values: ${last}.`} />
    </figure>
  );
}
