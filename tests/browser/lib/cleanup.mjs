// What a test must undo, last thing first: a folder goes after the browser that writes into it.

const stacks = new WeakMap();

/** Runs `undo` when the test is over, before everything that was registered earlier. */
export function atEnd(test, undo) {
  let stack = stacks.get(test);
  if (stack === undefined) {
    stack = [];
    stacks.set(test, stack);
    const undoAll = stack;
    test.after(async () => {
      const failures = [];
      while (undoAll.length > 0) {
        try {
          await undoAll.pop()();
        } catch (error) {
          failures.push(error);
        }
      }
      if (failures.length > 0) throw failures[0];
    });
  }
  stack.push(undo);
}
