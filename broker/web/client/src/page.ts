// What a browser tells of its network and of the page. Elsewhere nothing is told.

export interface PageEvents {
  offline(): void;
  online(): void;
  /** The page is put away, for good or to be shown again as it was. */
  hide(): void;
  show(): void;
}

interface Target {
  addEventListener?(type: string, listener: (event: any) => void): void;
  removeEventListener?(type: string, listener: (event: any) => void): void;
  document?: { visibilityState: string };
}

/** Watch until the returned function is called. */
export function watchPage(page: PageEvents): () => void {
  const target = globalThis as Target;
  const listeners: Record<string, (event: any) => void> = {
    offline: page.offline,
    online: page.online,
    pagehide: page.hide,
    pageshow: (event: { persisted: boolean }) => event.persisted && page.show(),
    visibilitychange: () => target.document?.visibilityState === "visible" && page.online(),
  };
  for (const [type, listener] of Object.entries(listeners)) target.addEventListener?.(type, listener);
  return () => {
    for (const [type, listener] of Object.entries(listeners)) target.removeEventListener?.(type, listener);
  };
}
