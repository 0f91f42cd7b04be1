// A trained model answers.

import { useState } from "preact/hooks";
import { ApiError, part, post, shortName } from "../api/client";
import { useGet, useLive } from "../api/hooks";
import type { Job, Real } from "../api/types";
import { digits, real } from "../parts/format";
import { Command, Empty, Loading, Panel, Problem } from "../parts/parts";
import { choose, type Place } from "../router";

interface Recommended {
  items?: { item?: string; title?: string; score?: Real }[];
}

function Recommend({ job }: { job: Job }) {
  const [user, setUser] = useState("");
  const [answer, setAnswer] = useState<Recommended>();
  const [error, setError] = useState<ApiError>();
  const [busy, setBusy] = useState(false);
  const ask = async (): Promise<void> => {
    setBusy(true);
    setError(undefined);
    try {
      setAnswer(await post<Recommended>(`jobs/${part(job.name)}/recommend`, { checkpoint: job.latest_checkpoint, user, k: 10 }));
    } catch (problem) {
      setAnswer(undefined);
      setError(problem instanceof ApiError ? problem : new ApiError(0, "UNKNOWN", "", String(problem)));
    } finally {
      setBusy(false);
    }
  };
  return (
    <Panel title={`What ${shortName(job.name)} recommends`} wide>
      <form
        class="filters"
        onSubmit={(event) => {
          event.preventDefault();
          void ask();
        }}
      >
        <label>
          <span>User, as the data set calls them</span>
          <input type="text" value={user} onInput={(event) => setUser(event.currentTarget.value)} />
        </label>
        <button type="submit" class="primary" disabled={busy || user === ""}>
          {busy ? "Asking…" : "Recommend"}
        </button>
      </form>
      {error !== undefined && <Problem error={error} what="The recommendation" />}
      {answer !== undefined && (
        <ol class="features">
          {(answer.items ?? []).map((item, i) => (
            <li key={i}>
              <bdi class="ellipsis">{item.title || item.item}</bdi>
              <span class="number">{digits(real(item.score))}</span>
            </li>
          ))}
        </ol>
      )}
    </Panel>
  );
}

export function PlaygroundPage({ place }: { place: Place }) {
  const { jobs } = useLive();
  const chosen = place.query.get("job") ?? "";
  const asked = useGet<Job>(chosen === "" ? "" : `jobs/${part(chosen)}`);
  const trained = [...jobs.values()].filter((job) => job.latest_checkpoint !== "").map((job) => shortName(job.name)).slice(0, 1000);
  const job = asked.value;
  return (
    <>
      <div class="page-head">
        <h1>Playground</h1>
        <p class="muted">A model that was trained answers.</p>
      </div>
      <div class="filters">
        <label>
          <span>Job</span>
          <select value={chosen} onChange={(event) => choose({ job: event.currentTarget.value })}>
            <option value="">choose one</option>
            {!trained.includes(chosen) && chosen !== "" && <option value={chosen}>{chosen}</option>}
            {trained.map((id) => (
              <option key={id} value={id}>
                {id}
              </option>
            ))}
          </select>
        </label>
      </div>
      {asked.error !== undefined && <Problem error={asked.error} what={`Job ${chosen}`} />}
      {chosen === "" ? (
        trained.length === 0 && jobs.known ? (
          <Empty title="No job has saved a model yet." />
        ) : (
          <Empty title="Choose a job whose model is to answer." />
        )
      ) : job === undefined ? (
        asked.error === undefined && <Loading />
      ) : job.spec?.model?.recommender !== undefined ? (
        <Recommend job={job} />
      ) : (
        <Empty title="This page asks recommenders only.">
          <p>
            The coordinator hands no other model's answers to clients. From a terminal: <Command>{`espalier predict ${shortName(job.name)} FILE`}</Command>
          </p>
        </Empty>
      )}
    </>
  );
}
