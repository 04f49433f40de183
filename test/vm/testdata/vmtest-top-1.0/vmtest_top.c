// SPDX-License-Identifier: Apache-2.0

#include <linux/module.h>

int vmtest_base_answer(void);

static int __init vmtest_top_init(void)
{
	pr_info("vmtest_top: the answer is %d\n", vmtest_base_answer());
	return 0;
}
module_init(vmtest_top_init);

static void __exit vmtest_top_exit(void)
{
}
module_exit(vmtest_top_exit);

MODULE_DESCRIPTION("a module that needs another one");
MODULE_VERSION("1.0");
MODULE_LICENSE("GPL");
