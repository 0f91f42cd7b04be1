// The coordinator itself, and who one is for it.

import { useEvery, useGet, useLive, useSession } from "../api/hooks";
import type { Cluster, System } from "../api/types";
import { bytes, time, whole } from "../parts/format";
import { Ago, Fact, Loading, Meter, Panel, Problem, useNow } from "../parts/parts";

/** How much of a limit is taken, as a bar with both numbers. */
function Used({ label, used, of, unit }: { label: string; used: number; of: number; unit: (value: number) => string }) {
  return (
    <Fact label={label} note={`of ${unit(of)}`}>
      {unit(used)}
      <Meter share={used / Math.max(1, of)} label={label} />
    </Fact>
  );
}

function Limits({ system }: { system: System }) {
  return (
    <Panel title="Store and limits">
      {system.store_problem !== "" && <p class="bad">✕ Nothing can be written: {system.store_problem}</p>}
      <dl class="list">
        <Fact label="Jobs are kept in">
          {system.store === "memory" ? "memory alone: they are gone when the coordinator ends" : system.store}
        </Fact>
        {system.data_size_bytes > 0 && <Used label="Disk of the data folder" used={system.data_size_bytes - system.data_free_bytes} of={system.data_size_bytes} unit={bytes} />}
        <Fact label="Checkpoints">
          {whole(system.checkpoints)}, {bytes(system.checkpoint_bytes)}
        </Fact>
        <Used label="Memory" used={system.resident_bytes} of={system.memory_bytes} unit={bytes} />
        <Used label="Files and connections" used={system.open_files} of={system.max_open_files} unit={whole} />
        <Used label="Jobs that have not ended" used={system.jobs_in_work} of={system.max_jobs} unit={whole} />
        <Used label="Workers" used={system.workers_connected} of={system.max_workers} unit={whole} />
        <Fact label="Tasks">
          {whole(system.tasks_leased)} with workers, {whole(system.tasks_waiting)} waiting
        </Fact>
        <Fact label="Threads">
          {whole(system.threads)} on {whole(system.processors)} {system.processors === 1 ? "processor" : "processors"}
        </Fact>
      </dl>
    </Panel>
  );
}

export function SystemPage() {
  const cluster = useGet<Cluster>("cluster");
  const system = useGet<System>("system");
  const session = useSession();
  const { workers } = useLive();
  const now = useNow();
  useEvery(5000, () => {
    cluster.again();
    system.again();
  });
  const versions = new Map<string, number>();
  for (const worker of workers.values()) {
    if (worker.state === "ACTIVE" || worker.state === "DRAINING") versions.set(worker.version, (versions.get(worker.version) ?? 0) + 1);
  }
  if (cluster.value === undefined) return cluster.error === undefined ? <Loading /> : <Problem error={cluster.error} what="The coordinator" />;
  const info = cluster.value;
  const days = (time(info.certificate_expire_time) - now) / 86_400_000;
  return (
    <>
      <h1>System</h1>
      <div class="grid">
        <Panel title="Coordinator">
          <dl class="list">
            <Fact label="Version">
              {info.version} {info.revision !== "" && <code>{info.revision.slice(0, 12)}</code>}
            </Fact>
            <Fact label="Started">
              <Ago at={info.start_time} />
            </Fact>
            <Fact label="Protocol with workers">
              {info.protocol_min} to {info.protocol_max}
            </Fact>
            <Fact label="Metrics for Prometheus">
              <code class="wrap">{info.metrics_address}</code>
            </Fact>
            <Fact label="Certificate ends">
              {info.certificate_expire_time === undefined ? (
                <span class="muted">no TLS</span>
              ) : (
                <span class={days < 14 ? "bad" : ""}>
                  <Ago at={info.certificate_expire_time} />
                </span>
              )}
            </Fact>
            <Fact label="Jobs">
              {whole(info.jobs_total)}, of which {whole(info.jobs_running)} in work
            </Fact>
          </dl>
        </Panel>
        <Panel title="Workers' programs">
          {versions.size === 0 ? (
            <p class="muted">No worker is connected.</p>
          ) : (
            <dl class="list">
              {[...versions].sort().map(([version, number]) => (
                <Fact key={version} label={`Version ${version}`}>
                  {whole(number)} {number === 1 ? "worker" : "workers"}
                </Fact>
              ))}
            </dl>
          )}
        </Panel>
        {system.value !== undefined ? <Limits system={system.value} /> : system.error !== undefined && <Problem error={system.error} what="The store and its limits" />}
        {session !== undefined && (
          <Panel title="This dashboard">
            <dl class="list">
              <Fact label="Talks to">
                <code class="wrap">{session.server}</code>
              </Fact>
              <Fact label="As">
                <bdi>{session.identity.name || "anybody"}</bdi> {session.identity.role !== undefined && <span class="muted">{session.identity.role.toLowerCase()}</span>}
              </Fact>
              <Fact label="May change">
                {[session.may.submit && "submit jobs", session.may.control && "control jobs", session.may.drain && "drain workers"].filter((text) => text !== false).join(", ") || "nothing"}
              </Fact>
              <Fact label="Version">{session.version}</Fact>
            </dl>
          </Panel>
        )}
      </div>
    </>
  );
}
