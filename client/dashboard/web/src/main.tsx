// The frame of all pages: where one is, whether the coordinator is heard, and the theme.

import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import "uplot/dist/uPlot.min.css";
import "./style/base.css";
import "./style/parts.css";
import "./style/pages.css";
import { useLive, useSession } from "./api/hooks";
import { live } from "./api/live";
import { storedTheme, useTheme, type Theme } from "./charts/colors";
import { ComparePage } from "./pages/compare";
import { EventsPage } from "./pages/events";
import { JobPage } from "./pages/job";
import { JobsPage } from "./pages/jobs";
import { OverviewPage } from "./pages/overview";
import { PlaygroundPage } from "./pages/playground";
import { RoundPage } from "./pages/round";
import { StructurePage } from "./pages/structure";
import { SystemPage } from "./pages/system";
import { WorkersPage } from "./pages/workers";
import { clock, span } from "./parts/format";
import { Empty, useNow } from "./parts/parts";
import { Link, usePlace, type Place } from "./router";

const PAGES = [
  ["", "Overview"],
  ["jobs", "Jobs"],
  ["workers", "Workers"],
  ["events", "Events"],
  ["compare", "Compare"],
  ["playground", "Playground"],
  ["system", "System"],
] as const;

function Page({ place }: { place: Place }) {
  const [first = "", id, page, number] = place.parts;
  if (first === "" && place.parts.length === 0) return <OverviewPage />;
  if (first === "jobs" && id === undefined) return <JobsPage place={place} />;
  if (first === "jobs" && id !== undefined && page === undefined) return <JobPage key={id} id={id} place={place} />;
  if (first === "jobs" && id !== undefined && page === "structure") return <StructurePage key={id} id={id} place={place} />;
  if (first === "jobs" && id !== undefined && page === "rounds") return <RoundPage key={id} id={id} round={number ?? ""} place={place} />;
  if (first === "workers") return <WorkersPage place={place} />;
  if (first === "events") return <EventsPage place={place} />;
  if (first === "compare") return <ComparePage place={place} />;
  if (first === "playground") return <PlaygroundPage place={place} />;
  if (first === "system") return <SystemPage />;
  return (
    <Empty title="There is no such page.">
      <p>
        <Link to="/">The overview</Link> leads to all there are.
      </p>
    </Empty>
  );
}

function Banner() {
  const { connection } = useLive();
  const now = useNow();
  if (connection.state !== "disconnected") return null;
  return (
    <div class="banner" role="alert">
      <strong>
        <span aria-hidden="true">✕ </span>Disconnected for {span((now - connection.since) / 1000)}.
      </strong>{" "}
      What you see is from {clock(connection.heard)}. <span class="wrap">{connection.message}</span>
    </div>
  );
}

function ThemeButton() {
  const [theme, setTheme] = useState<Theme>(storedTheme);
  useEffect(() => useTheme(theme), [theme]);
  const next: Theme = theme === "auto" ? "light" : theme === "light" ? "dark" : "auto";
  const signs = { auto: "◐", light: "☀", dark: "☾" };
  return (
    <button type="button" class="plain" onClick={() => setTheme(next)} title={`The theme is ${theme}; make it ${next}`}>
      <span aria-hidden="true">{signs[theme]}</span> {theme}
    </button>
  );
}

function App() {
  const place = usePlace();
  const session = useSession();
  const heading = useRef<HTMLElement>(null);
  const current = place.parts[0] ?? "";
  const title = PAGES.find(([path]) => path === current)?.[1] ?? "Espalier";
  useEffect(() => {
    document.title = place.parts[1] === undefined ? `${title} · Espalier` : `${place.parts[1]} · Espalier`;
  }, [title, place.parts[1]]);
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), heading.current?.focus())}>
        Skip to the page
      </a>
      <header class="top">
        <Link to="/" class="brand">
          Espalier
        </Link>
        <nav aria-label="Pages">
          {PAGES.map(([path, label]) => (
            <Link key={path} to={`/${path}`} {...(path === current ? { "aria-current": "page" as const } : {})}>
              {label}
            </Link>
          ))}
        </nav>
        <div class="top-end">
          {session !== undefined && (
            <span class="who" title={`Connected to ${session.server} as ${session.identity.name ?? "somebody"}`}>
              <bdi>{session.identity.name ?? ""}</bdi> <span class="muted">{(session.identity.role ?? "").toLowerCase()}</span>
            </span>
          )}
          <ThemeButton />
        </div>
      </header>
      <Banner />
      <main id="main" tabIndex={-1} ref={heading}>
        <Page place={place} />
      </main>
    </>
  );
}

live.start();
const root = document.getElementById("app");
if (root !== null) render(<App />, root);
