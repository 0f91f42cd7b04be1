// The messages of the API as the dashboard gets them: the JSON of `espalier … -o json`, docs/reference/json.md. Only fields that
// pages use are here. Times are RFC 3339 texts, durations texts such as "1.5s".

export type Words = string;
/** A number, or "NaN", "Infinity" or "-Infinity". */
export type Real = number | string;

export interface Condition {
  type: Words;
  message: string;
  since?: string;
}

export interface LayerSummary {
  name: string;
  active: number;
  size: number;
  output_error?: Real;
  initial_output_error?: Real;
  exchanged: number;
}

export interface Metric {
  name: string;
  value: Real;
}

export interface Round {
  round: number;
  participants: number;
  examples: number;
  train_loss?: Real;
  test_loss?: Real;
  test_accuracy?: Real;
  federated_test_loss?: Real;
  federated_test_accuracy?: Real;
  test_metrics?: Metric[];
  density: Real;
  active_weights: number;
  bytes_sent: number;
  bytes_received: number;
  dense_bytes: number;
  duration?: string;
  weights_changed: number;
  explored: Real;
  worker_peak_memory_bytes: number;
  train_flops: Real;
  dense_train_flops: Real;
  compute_time?: string;
  layers: LayerSummary[];
  perplexity?: Real;
  main_metric?: Real;
  run: string;
  run_round: number;
}

export interface Run {
  name: string;
  round: number;
  rounds: number;
  density: Real;
  active_weights: number;
  last_metric?: Real;
  best_metric: Real;
  best_round: number;
  latest_checkpoint: string;
}

export interface Spec {
  display_name?: string;
  model?: Record<string, unknown>;
  data?: Record<string, unknown>;
  method?: { name?: string; parameters?: Record<string, unknown> };
  evaluation?: { main_metric?: string };
  federation?: { rounds?: number };
  [section: string]: unknown;
}

export interface Job {
  name: string;
  spec?: Spec;
  state?: Words;
  failure_reason: string;
  failure_message: string;
  conditions: Condition[];
  create_time?: string;
  start_time?: string;
  end_time?: string;
  round: number;
  total_rounds: number;
  best_metric: Real;
  best_round: number;
  latest_checkpoint: string;
  model_hash: string;
  stored_parameters: number;
  dense_parameters: number;
  runs: Run[];
  features?: { index: number; name: string; strength: Real; selected: boolean }[];
  left_out_workers?: { worker: string; reason?: string; message?: string }[];
  owner?: string;
}

export interface JobEvent {
  sequence: number;
  time?: string;
  state_changed?: { state?: Words; reason: string; message: string };
  round_started?: { round: number; participants: number; run: string };
  round_committed?: { summary?: Round };
  task_reassigned?: { round: number; participant: string; worker: string; reason: string; message: string; run: string };
  update_rejected?: { round: number; participant: string; worker: string; reason: string; message: string; run: string };
  checkpoint_written?: { name: string; round: number; size_bytes: number };
  quorum_missed?: { round: number; arrived: number; needed: number; decision: string; run: string };
  prelude_step?: { phase: string; candidate: number; candidates: number; loss?: Real };
}

export interface NamedEvent {
  job: string;
  event: JobEvent;
}

export interface Checkpoint {
  name: string;
  job: string;
  round: number;
  size_bytes: number;
  sha256?: string;
  create_time?: string;
  density?: Real;
  active_weights?: number;
  run?: string;
}

export interface Dataset {
  name: string;
  kind?: Words;
  train_examples?: number;
  test_examples?: number;
  problem?: string;
  [field: string]: unknown;
}

export interface Worker {
  name: string;
  state?: Words;
  version: string;
  register_time?: string;
  last_seen_time?: string;
  task: string;
  job: string;
  datasets: Dataset[];
  threads: number;
  resident_bytes: number;
  tasks_completed: number;
  tasks_failed: number;
  memory_budget_bytes: number;
  quarantine_end_time?: string;
  quarantine_reason: string;
  certificate_expire_time?: string;
}

export interface System {
  time: string;
  store: string;
  store_problem: string;
  data_free_bytes: number;
  data_size_bytes: number;
  checkpoints: number;
  checkpoint_bytes: number;
  open_files: number;
  max_open_files: number;
  threads: number;
  processors: number;
  resident_bytes: number;
  memory_bytes: number;
  tasks_waiting: number;
  tasks_leased: number;
  jobs_in_work: number;
  max_jobs: number;
  workers_connected: number;
  max_workers: number;
}

export interface Cluster {
  version: string;
  revision: string;
  protocol_min: number;
  protocol_max: number;
  start_time?: string;
  metrics_address: string;
  workers_active: number;
  jobs_running: number;
  jobs_total: number;
  certificate_expire_time?: string;
}

export interface Session {
  identity: { name?: string; role?: Words; [field: string]: unknown };
  server: string;
  version: string;
  csrf_token: string;
  may: { submit: boolean; control: boolean; drain: boolean };
}

export interface TopologyTensor {
  name: string;
  rows: number;
  columns: number;
  active: number;
  sparse: boolean;
  shape: number[];
}

export interface DegreeCount {
  degree: number;
  units: number;
  last_degree?: number;
}

export interface Topology {
  checkpoint: string;
  round: number;
  tensors: TopologyTensor[];
  tensor: string;
  rows: number;
  columns: number;
  grid_rows: number;
  grid_columns: number;
  active: number[];
  strength: Real[];
  grown: number[];
  dropped: number[];
  row_degrees: DegreeCount[];
  column_degrees: DegreeCount[];
  column_strength: Real[];
  input_shape: number[];
  active_total: number;
  grown_total: number;
  dropped_total: number;
}

export interface Participant {
  participant: string;
  worker: string;
  phase: string;
  state?: Words;
  assign_time?: string;
  upload_time?: string;
  accept_time?: string;
  attempts: number;
  reason: string;
  message: string;
}

export interface Progress {
  job: string;
  round: number;
  run: string;
  phase: string;
  start_time?: string;
  phase_start_time?: string;
  deadline?: string;
  end_time?: string;
  arrived: number;
  needed: number;
  outstanding: number;
  participants: Participant[];
  participants_left_out: number;
  oldest_round: number;
  newest_round: number;
}

export interface MethodInfo {
  name: string;
  description?: string;
  parameters?: { name: string; default_value?: unknown; description?: string }[];
}
