// Functions of our own inside SQL, which the database worker calls: a store declares them by name, as it does transactions.
// Only for reading: no table and no index may depend on one.

type SqlValue = null | number | bigint | string | Uint8Array;
type SqlFunction = (...values: never[]) => SqlValue;

const declared = new Map<string, { act: SqlFunction; steady: boolean }>();

/** `steady`: the same values give the same answer, so that the database need not ask again. */
export function sqlFunction(name: string, act: SqlFunction, { steady }: { steady: boolean }): void {
  if (declared.has(name)) throw new Error(`The SQL function ${name} is declared twice.`);
  declared.set(name, { act, steady });
}

export function sqlFunctions(): Iterable<[string, { act: SqlFunction; steady: boolean }]> {
  return declared;
}
