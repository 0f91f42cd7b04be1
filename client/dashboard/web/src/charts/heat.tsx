// A grid of cells in colours, on a canvas: the weights of a layer, or the pixels of an image.

import { useEffect, useRef, useState } from "preact/hooks";
import { css, onTheme } from "./colors";

type Rgb = [number, number, number];

function rgb(name: string): Rgb {
  const hex = css(name).replace("#", "");
  return [0, 2, 4].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)) as Rgb;
}

function mix(a: Rgb, b: Rgb, share: number): Rgb {
  return a.map((from, i) => Math.round(from + ((b[i] ?? from) - from) * share)) as Rgb;
}

export interface Cells {
  rows: number;
  columns: number;
  /** Row by row, from 0 (nothing) to 1; below 0 down to −1 in the colour of what was lost. */
  values: number[];
}

export function Heat({ cells, label, describe, square }: { cells: Cells; label: string; describe: (row: number, column: number) => string; square?: boolean }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [theme, setTheme] = useState(0);
  const [told, setTold] = useState("");
  useEffect(() => onTheme(() => setTheme((n) => n + 1)), []);
  const { rows, columns, values } = cells;

  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (context == null || rows === 0 || columns === 0) return;
    const empty = rgb("--heat-0");
    const full = rgb("--heat-1");
    const lost = rgb("--heat-lost");
    const image = context.createImageData(columns, rows);
    values.forEach((value, i) => {
      const color = value < 0 ? mix(empty, lost, Math.min(1, -value)) : mix(empty, full, Math.min(1, value));
      image.data.set([...color, 255], 4 * i);
    });
    context.putImageData(image, 0, 0);
  }, [cells, theme]);

  const cellAt = (event: PointerEvent): void => {
    const box = canvas.current?.getBoundingClientRect();
    if (box === undefined) return;
    const column = Math.floor((columns * (event.clientX - box.left)) / box.width);
    const row = Math.floor((rows * (event.clientY - box.top)) / box.height);
    if (row >= 0 && row < rows && column >= 0 && column < columns) setTold(describe(row, column));
  };
  return (
    <div class="heat">
      <canvas
        ref={canvas}
        width={columns}
        height={rows}
        class={square === true ? "heat-square" : "heat-wide"}
        role="img"
        aria-label={label}
        onPointerMove={cellAt}
        onPointerLeave={() => setTold("")}
      />
      <p class="heat-told" aria-live="off">
        {told === "" ? label : told}
      </p>
    </div>
  );
}
