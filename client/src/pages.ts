// Walks through all pages of a list.

interface Page<T> {
  items: T[];
  nextPage?: string | undefined;
}

/** `allOf((page) => client.runs.list({ workspace, ...page }))`: every item, page by page. */
export async function* allOf<T>(list: (page: { page?: string }) => Promise<Page<T>>): AsyncGenerator<T, void> {
  let next: string | undefined;
  do {
    const answer = await list(next === undefined ? {} : { page: next });
    yield* answer.items;
    next = answer.nextPage;
  } while (next !== undefined);
}
