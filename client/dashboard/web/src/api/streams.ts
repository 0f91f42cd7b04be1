// Event streams of the dashboard's server, which the browser takes up again after the last event it has seen.
//
// A browser opens six connections to a server. So a page that is hidden gives its streams back, and goes on when it is shown.

export interface Stream {
  close(): void;
}

export interface Handlers {
  /** By the name of the event; gets its data, parsed. */
  on: Record<string, (data: never, id: string) => void>;
  /** Whether the stream is there. */
  open?: (open: boolean) => void;
  /** The server does not have it. */
  missing?: () => void;
  /** What to take up after, when the page is shown again. */
  resume?: (path: string, lastId: string) => string;
}

export function openStream(path: string, handlers: Handlers): Stream {
  let source: EventSource | undefined;
  let lastId = "";
  let closed = false;
  let retry: number | undefined;

  function connect(): void {
    if (closed || source !== undefined || document.visibilityState === "hidden") return;
    const resumed = lastId !== "" && handlers.resume ? handlers.resume(path, lastId) : path;
    const opened = new EventSource(`/api/v1/${resumed}`);
    source = opened;
    let wasOpen = false;
    opened.onopen = () => {
      wasOpen = true;
      handlers.open?.(true);
    };
    opened.onerror = () => {
      handlers.open?.(false);
      if (opened.readyState !== EventSource.CLOSED) return; // it tries again by itself
      source = undefined;
      if (!wasOpen) {
        void check();
      } else {
        retry = window.setTimeout(connect, 2000);
      }
    };
    for (const [name, handle] of Object.entries(handlers.on)) {
      opened.addEventListener(name, (event) => {
        const message = event as MessageEvent<string>;
        if (message.lastEventId !== "") lastId = message.lastEventId;
        handle((message.data === "" ? undefined : JSON.parse(message.data)) as never, message.lastEventId);
      });
    }
  }

  // A stream that was refused says why to an ordinary request only.
  async function check(): Promise<void> {
    let status = 0;
    try {
      const response = await fetch(`/api/v1/${path}`, { headers: { accept: "application/json" } });
      status = response.status;
      await response.body?.cancel();
    } catch {
      // The dashboard itself is away.
    }
    if (closed) return;
    if (status === 404 || status === 501) {
      handlers.missing?.();
    } else {
      retry = window.setTimeout(connect, 3000);
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
