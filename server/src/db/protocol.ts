// What passes between the service and its database workers.
export interface Opening {
  file: string;
  mode: 'writer' | 'reader';
}

export type Call =
  | { id: number; name: string; input: unknown }
  | { id: number; sql: string; parameters: readonly unknown[] };

export type Answer = { id: number; value: unknown } | { id: number; failure: Failure };

/** What the worker posts after a commit: all answers, and the topics whose listeners are to be told. */
export interface Committed {
  answers: Answer[];
  topics: string[];
}

/** An error as it crosses threads; a ServiceError keeps its code, reason and details. */
export interface Failure {
  name: string;
  message: string;
  stack?: string;
  service?: { code: string; reason: string; details?: Record<string, unknown> };
}
