// Every store: importing one declares its tables and transactions; the migrations are applied in this order.
import { accessMigrations } from './access/store.ts';
import { activityMigrations } from './activity/store.ts';
import { blobMigrations } from './blob/store.ts';
import type { Migration } from './db/migrations.ts';
import { environmentMigrations } from './environment/store.ts';
import { snapshotMigrations } from './snapshot/store.ts';
import { workspaceMigrations } from './workspace/store.ts';

export const migrations: Migration[] = [
  ...accessMigrations,
  ...activityMigrations,
  ...blobMigrations,
  ...snapshotMigrations,
  ...workspaceMigrations,
  ...environmentMigrations,
];
