// The coordinator itself, and who one is for it.

import { useEvery, useGet, useLive, useSession } from "../api/hooks";
import type { Cluster } from "../api/types";
import { bytes, time, whole } from "../parts/format";
import { Ago, Fact, Loading, Panel, Problem, useNow } from "../parts/parts";

const SHOWN = new Set(["version", "revision", "protocol_min", "protocol_max", "start_time", "metrics_address", "workers_active", "jobs_running", "jobs_total", "certificate_expire_time"]);

function valueOf(name: string, value: unknown): string {
  if (typeof value === "number") return name.endsWith("_bytes") ? bytes(value) : whole(value);
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}

export function SystemPage() {
  const cluster = useGet<Cluster>("cluster");
  const session = useSession();
  const { workers } = useLive();
  const now = useNow();
  useEvery(5000, cluster.again);
  const versions = new Map<string, number>();
  for (const worker of workers.values()) {
    if (worker.state === "ACTIVE" || worker.state === "DRAINING") versions.set(worker.version, (versions.get(worker.version) ?? 0) + 1);
  }
  if (cluster.value === undefined) return cluster.error === undefined ? <Loading /> : <Problem error={cluster.error} what="The coordinator" />;
  const info = cluster.value;
  const days = (time(info.certificate_expire_time) - now) / 86_400_000;
  const more = Object.entries(info).filter(([name, value]) => !SHOWN.has(name) && value !== "" && !(Array.isArray(value) && value.length === 0));
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
        {more.length > 0 && (
          <Panel title="Store and limits">
            <dl class="list">
              {more.map(([name, value]) => (
                <Fact key={name} label={name.replaceAll("_", " ")}>
                  <span class="wrap">{valueOf(name, value)}</span>
                </Fact>
              ))}
            </dl>
          </Panel>
        )}
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
