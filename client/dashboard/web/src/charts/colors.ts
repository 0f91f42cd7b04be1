// Colours of series and maps, by the theme in use. Series also differ in their dashes, so that colour is never alone.

export function css(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export const MOST_SERIES = 8;

export function seriesColor(at: number): string {
  return css(`--series-${(at % MOST_SERIES) + 1}`);
}

const DASHES: number[][] = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 5], [12, 4], [3, 6], [8, 3, 2, 3, 2, 3]];

export function seriesDash(at: number): number[] {
  return DASHES[at % DASHES.length] ?? [];
}

const listeners = new Set<() => void>();

/** Calls `listener` when the theme changes. */
export function onTheme(listener: () => void): () => void {
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
  };
}

export type Theme = "auto" | "light" | "dark";
const KEY = "espalier-theme";

export function storedTheme(): Theme {
  try {
    const stored = localStorage.getItem(KEY);
    return stored === "light" || stored === "dark" ? stored : "auto";
  } catch {
    return "auto";
  }
}

const darkWanted = window.matchMedia("(prefers-color-scheme: dark)");

// The styles know light and dark alone; what the system wants is looked up here.
function show(theme: Theme): void {
  document.documentElement.dataset.theme = theme === "auto" ? (darkWanted.matches ? "dark" : "light") : theme;
  for (const listener of listeners) listener();
}

export function useTheme(theme: Theme): void {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // A browser that keeps nothing shows the theme all the same.
  }
  show(theme);
}

darkWanted.addEventListener("change", () => show(storedTheme()));
show(storedTheme());
