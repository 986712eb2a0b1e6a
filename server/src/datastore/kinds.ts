// Every kind of datastore, complete by the compiler.
import type { DatastoreDriver, DatastoreKind } from './driver.ts';
import { LocalDatastore } from './kinds/local/local.ts';

/** What is kept with a datastore's row, by kind. */
export interface DatastoreSettings {
  local: { folder: string };
}

export const kinds: { [K in DatastoreKind]: (settings: DatastoreSettings[K]) => DatastoreDriver } = {
  local: ({ folder }) => new LocalDatastore(folder),
};
