/** Listeners by event type. */
export class Emitter {
  readonly #listeners = new Map<string, Set<(event: any) => void>>();

  on(type: string, listener: (event: any) => void): () => void {
    const own = (event: unknown): void => listener(event);
    let group = this.#listeners.get(type);
    if (!group) this.#listeners.set(type, (group = new Set()));
    group.add(own);
    return () => void group.delete(own);
  }

  /** Call every listener; one that throws is reported as an uncaught error and hinders no other. */
  emit(type: string, event: unknown): void {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        listener(event);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
