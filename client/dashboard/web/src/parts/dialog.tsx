// A question that has to be answered before something is changed.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "../api/client";
import { Problem } from "./parts";

export function Dialog({ title, open, onClose, children }: { title: string; open: boolean; onClose: () => void; children: ComponentChildren }) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = element.current;
    if (open && dialog !== null && !dialog.open) dialog.showModal();
    if (!open && dialog?.open) dialog.close();
  }, [open]);
  return (
    <dialog ref={element} onClose={onClose} aria-label={title}>
      {open && (
        <>
          <h2>{title}</h2>
          {children}
        </>
      )}
    </dialog>
  );
}

/** A button that asks first, and then says how it went. */
export function Action({ label, title, children, run, danger }: { label: string; title: string; children: ComponentChildren; run: () => Promise<unknown>; danger?: boolean }) {
  const [open, setOpen] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError>();
  const close = (): void => {
    setOpen(false);
    setError(undefined);
  };
  const go = async (): Promise<void> => {
    setBusy(true);
    setError(undefined);
    try {
      await run();
      close();
    } catch (problem) {
      setError(problem instanceof ApiError ? problem : new ApiError(0, "UNKNOWN", "", String(problem)));
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <button type="button" class={danger ? "danger" : ""} onClick={() => setOpen(true)}>
        {label}
      </button>
      <Dialog title={title} open={open} onClose={close}>
        <div class="wrap">{children}</div>
        {error !== undefined && <Problem error={error} what="The change" />}
        <div class="dialog-buttons">
          <button type="button" onClick={close}>
            Leave it
          </button>
          <button type="button" class={danger ? "danger primary" : "primary"} disabled={busy} onClick={() => void go()}>
            {busy ? "…" : label}
          </button>
        </div>
      </Dialog>
    </>
  );
}
