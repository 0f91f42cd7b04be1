// What happened to all jobs, the newest first.

import { useLive } from "../api/hooks";
import { EventList, KIND_WORDS, kindOf } from "../parts/events";
import { Empty } from "../parts/parts";
import { choose, type Place } from "../router";

const MOST = 200;

export function EventsPage({ place }: { place: Place }) {
  const { events, jobs } = useLive();
  const kind = place.query.get("kind") ?? "";
  const job = place.query.get("job") ?? "";
  const matching = events.filter((one) => (kind === "" || kindOf(one.event) === kind) && one.job.includes(job));
  const shown = matching.slice(-MOST).reverse();
  return (
    <>
      <div class="page-head">
        <h1>Events</h1>
        <p class="muted">The newest of all jobs, as they come. A job's page has all of its own.</p>
      </div>
      <div class="filters" role="search">
        <label>
          <span>Job contains</span>
          <input type="search" value={job} onInput={(event) => choose({ job: event.currentTarget.value })} />
        </label>
        <label>
          <span>Kind</span>
          <select value={kind} onChange={(event) => choose({ kind: event.currentTarget.value })}>
            <option value="">all</option>
            {Object.entries(KIND_WORDS).map(([word, text]) => (
              <option key={word} value={word}>
                {text}
              </option>
            ))}
          </select>
        </label>
      </div>
      {shown.length === 0 ? (
        <Empty title={events.length > 0 ? "No event is like that." : jobs.known ? "Nothing has happened since the coordinator started." : "Asking the coordinator…"} />
      ) : (
        <EventList withJob events={shown} />
      )}
    </>
  );
}
