// Event streams of the dashboard's server, which the browser takes up again after the last event it has seen.
//
// A browser opens six connections to a server. So a page that is hidden gives its streams back, and goes on when it is shown.

const RETRY_MS = 2000;

export interface Stream {
  close(): void;
}

export interface Handlers {
  /** By the name of the event; gets its data, parsed. */
  on: Record<string, (data: never, id: string) => void>;
  /** Whether the stream is there. */
  open?: (open: boolean) => void;
  /** Everything comes again: the stream begins anew, after a while in which nothing was heard. */
  anew?: () => void;
  /** What to take up after, when the page is shown again. */
  resume?: (path: string, lastId: string) => string;
}

export function openStream(path: string, handlers: Handlers): Stream {
  let source: EventSource | undefined;
  let lastId = "";
  let closed = false;
  let retry: number | undefined;
  let began = false;

  function connect(): void {
    if (closed || source !== undefined || document.visibilityState === "hidden") return;
    const resumed = lastId !== "" && handlers.resume ? handlers.resume(path, lastId) : path;
    const opened = new EventSource(`/api/v1/${resumed}`);
    source = opened;
    if (began && resumed === path) handlers.anew?.();
    began = true;
    opened.onopen = () => handlers.open?.(true);
    opened.onerror = () => {
      handlers.open?.(false);
      if (opened.readyState !== EventSource.CLOSED) return; // it tries again by itself
      source = undefined;
      retry = window.setTimeout(connect, RETRY_MS);
    };
    for (const [name, handle] of Object.entries(handlers.on)) {
      opened.addEventListener(name, (event) => {
        const message = event as MessageEvent<string>;
        if (message.lastEventId !== "") lastId = message.lastEventId;
        handle((message.data === "" ? undefined : JSON.parse(message.data)) as never, message.lastEventId);
      });
    }
  }

  function disconnect(): void {
    source?.close();
    source = undefined;
    window.clearTimeout(retry);
  }

  function follow(): void {
    if (document.visibilityState === "hidden") disconnect();
    else connect();
  }

  document.addEventListener("visibilitychange", follow);
  connect();
  return {
    close() {
      closed = true;
      document.removeEventListener("visibilitychange", follow);
      disconnect();
    },
  };
}
