// All tables as Kysely sees them: each room's store declares its own in `<noun>/store.ts` and adds it here by merging.
// biome-ignore lint/suspicious/noEmptyInterface: rooms add their tables by declaration merging
export interface Schema {}
