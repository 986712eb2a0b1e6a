/** What a test waits for without being able to give up ends after this: an engine that hangs fails a test, and not the whole run. */
export const longest = { timeout: 120_000, killSignal: 'SIGKILL' } as const;
